/**
 * What a specification must obey beyond the form of its single values: things that may not be there twice, values
 * that contradict each other, and what only a cluster that allows host access may run.
 *
 * Invariants: rules look at any part that is well-formed, also when other parts are not (every problem at once);
 * they change nothing and stop at nothing.
 */

import type { Problem } from '../errors';
import { MAX_EXCLUSIVE_SCALE } from '../exclusive';
import { CAPABILITIES, DEFAULT_CAPABILITIES, normaliseCapability } from './capabilities';
import { normaliseCount, normalisePath, parsePort } from './normalise';
import type { ParsePolicy } from './parse';
import { checkPublicPorts } from './public-ports';
import { checkRoutes } from './route-rules';
import { DEFAULT_CPUS, DEFAULT_MEMORY_LIMIT_BYTES } from './schema';
import { SIGNALS } from './signals';
import { suggestKey } from './suggest';
import type { LenientContainer, LenientSpec, Path, Places, WellFormed } from './well-formed';

export interface RuleProblem extends Problem {
  /** Well-formed, but not allowed on this cluster. */
  readonly forbidden?: true;
}

/** A problem and its place in what is left of the document. */
interface Broken {
  readonly place: Path;
  readonly message: string;
  readonly forbidden?: true;
}

const problem = (place: Path, message: string): Broken => ({ place, message });

const HOST_ACCESS = 'start ContainerOS with --allow-host-access to allow it';
const forbidden = (place: Path, what: string): Broken => ({
  place,
  message: `${what}, which gives the container the machine; ${HOST_ACCESS}`,
  forbidden: true,
});

const MAX_PORTS = 100;
const RESERVED_LABELS = 'containeros.';

interface Place {
  readonly path: Path;
  /** How people call the place. */
  readonly label: string;
}

/** Remembers where each thing was seen first. */
const createRegister = () => {
  const places = new Map<string, Place>();
  return (key: string, place: Place): Place | undefined => {
    const first = places.get(key);
    if (first === undefined) places.set(key, place);
    return first;
  };
};

const portsOf = (container: LenientContainer) => [
  ...(container.ports ?? []).map((port, index) => ({ ...parsePort(port), path: ['ports', index] as Path })),
  ...Object.keys(container.httpPorts ?? {}).map((port) => ({
    ...parsePort(port),
    path: ['httpPorts', port] as Path,
  })),
  ...Object.keys(container.publicPorts ?? {}).map((port) => ({
    ...parsePort(port),
    path: ['publicPorts', port] as Path,
  })),
];

/** Why a port of one container does not stand in two places, where it would be led to by both. */
const ledToTwice = (...places: readonly Path[]): string =>
  ['httpPorts', 'publicPorts'].every((key) => places.some((place) => place[2] === key))
    ? '; a port is either for hostnames ("httpPorts") or for connections as they are ("publicPorts")'
    : '';

/** The containers of a replica share one network namespace: a port belongs to one of them. */
const checkPorts = (
  containers: Readonly<Record<string, LenientContainer>>,
  places: Places,
): readonly Broken[] => {
  const register = createRegister();
  return Object.entries(containers).flatMap(([name, container]) => {
    const ports = portsOf(container);
    const problems = ports.flatMap(({ port, protocol, path }): readonly Broken[] => {
      const place = ['containers', name, ...path];
      if (port > 65_535) return [problem(place, `must be a port from 1 to 65535, not ${port}`)];
      const first = register(`${port}/${protocol}`, { path: place, label: name });
      if (first === undefined) return [];
      const message =
        first.label === name
          ? `is port ${port}/${protocol} again: ${places.pointer(first.path)} has it already${ledToTwice(first.path, place)}`
          : `is port ${port}/${protocol}, which container "${first.label}" has too; the containers of a microservice share one network, so each needs ports of its own`;
      return [problem(place, message)];
    });
    if (ports.length <= MAX_PORTS) return problems;
    return [...problems, problem(['containers', name], `must have ${MAX_PORTS} ports at most`)];
  });
};

/** Containers are found by name in the DNS, which knows no upper case. */
const checkNames = (containers: Readonly<Record<string, LenientContainer>>): readonly Broken[] => {
  const register = createRegister();
  return Object.keys(containers).flatMap((name) => {
    const first = register(name.toLowerCase(), { path: ['containers', name], label: name });
    return first === undefined
      ? []
      : [problem(['containers', name], `differs from "${first.label}" in upper and lower case only`)];
  });
};

const checkEnv = (path: Path, container: LenientContainer, places: Places): readonly Broken[] => {
  if (!Array.isArray(container.env)) return [];
  const register = createRegister();
  return container.env.flatMap((entry, index) => {
    const key = entry.slice(0, entry.indexOf('='));
    const place = [...path, 'env', index];
    const first = register(key, { path: place, label: key });
    return first === undefined
      ? []
      : [problem(place, `sets ${key} again: ${places.pointer(first.path)} sets it already`)];
  });
};

const checkVolumes = (
  path: Path,
  container: LenientContainer,
  allowHostAccess: boolean,
  places: Places,
): readonly Broken[] => {
  const register = createRegister();
  return (container.volumes ?? []).flatMap((volume, index) => {
    const place = [...path, 'volumes', index];
    const problems: Broken[] = [];
    const target = normalisePath(volume.path);
    const first = register(target, { path: place, label: target });
    if (target === '/')
      problems.push(problem([...place, 'path'], 'must not be /, which would hide the image'));
    if (target.split('/').includes('..')) problems.push(problem([...place, 'path'], 'must not contain ..'));
    if (first !== undefined) {
      problems.push(
        problem([...place, 'path'], `is ${target} again: ${places.pointer(first.path)} is there already`),
      );
    }
    if ('hostPath' in volume && !allowHostAccess) {
      const what = /(^|\/)docker\.sock$/.test(normalisePath(volume.hostPath))
        ? 'mounts the Docker socket'
        : 'mounts a path of the host';
      problems.push(forbidden([...place, 'hostPath'], what));
    }
    return problems;
  });
};

const checkCheck = (path: Path, container: LenientContainer, places: Places): readonly Broken[] => {
  const { check } = container;
  if (check === undefined || 'command' in check) return [];
  if (!['ports', 'httpPorts', 'publicPorts'].every((key) => places.isWhole([...path, key]))) return [];
  const [kind, { port }] = 'http' in check ? (['http', check.http] as const) : (['tcp', check.tcp] as const);
  if (portsOf(container).some((one) => one.port === port && one.protocol === 'tcp')) return [];
  return [
    problem(
      [...path, 'check', kind, 'port'],
      `is ${port}, which is no TCP port of this container; add it to "ports"`,
    ),
  ];
};

const checkResources = (path: Path, container: LenientContainer, places: Places): readonly Broken[] => {
  const problems: Broken[] = [];
  const cpus = container.cpus ?? DEFAULT_CPUS;
  const memory = container.memLimit ?? DEFAULT_MEMORY_LIMIT_BYTES;
  const { reserve } = container;
  const above = (unit: string, limit: number, key: string) =>
    `must not be above the limit, which is ${limit} ${unit} ("${key}"${key in container ? '' : ', by default'})`;
  if (reserve?.cpus !== undefined && reserve.cpus > cpus && places.isWhole([...path, 'cpus'])) {
    problems.push(problem([...path, 'reserve', 'cpus'], above('CPUs', cpus, 'cpus')));
  }
  if (reserve?.memory !== undefined && reserve.memory > memory && places.isWhole([...path, 'memLimit'])) {
    problems.push(problem([...path, 'reserve', 'memory'], above('bytes', memory, 'memLimit')));
  }
  return problems;
};

const checkCapabilities = (
  path: Path,
  container: LenientContainer,
  allowHostAccess: boolean,
): readonly Broken[] => {
  const dropped = new Set((container.dropCapabilities ?? []).map(normaliseCapability));
  return (['dropCapabilities', 'addCapabilities'] as const).flatMap((key) =>
    (container[key] ?? []).flatMap((written, index): readonly Broken[] => {
      const place = [...path, key, index];
      const name = normaliseCapability(written);
      if (!CAPABILITIES.has(name)) {
        const meant = suggestKey(name, [...CAPABILITIES]);
        const hint = meant === undefined ? ' like NET_RAW' : `; did you mean ${meant}?`;
        return [problem(place, `must be a Linux capability${hint}`)];
      }
      if (key === 'dropCapabilities') return [];
      if (dropped.has(name)) return [problem(place, `must not be both added and dropped: ${name}`)];
      if (allowHostAccess || DEFAULT_CAPABILITIES.has(name)) return [];
      return [forbidden(place, `adds the capability ${name}`)];
    }),
  );
};

/** Docker would refuse to make the container, only after the images are pulled. */
const checkStopSignal = (path: Path, { stopSignal }: LenientContainer): readonly Broken[] => {
  const name = stopSignal?.replace(/^SIG/, '');
  if (name === undefined || SIGNALS.has(name)) return [];
  const meant = suggestKey(name, [...SIGNALS]);
  const hint = meant === undefined ? ' like SIGTERM' : `; did you mean SIG${meant}?`;
  return [problem([...path, 'stopSignal'], `must be a Linux signal${hint}`)];
};

const checkLabels = (path: Path, container: LenientContainer): readonly Broken[] =>
  Object.keys(container.labels ?? {})
    .filter((label) => label.toLowerCase().startsWith(RESERVED_LABELS))
    .map((label) =>
      problem([...path, 'labels', label], `must not begin with ${RESERVED_LABELS}, which is reserved`),
    );

const isZero = (count: number | string | undefined, whenMissing: boolean): boolean => {
  if (count === undefined) return whenMissing;
  const parsed = normaliseCount(count);
  return (parsed.kind === 'count' ? parsed.count : parsed.percent) === 0;
};

/** What must never run twice has one replica, and its old one stops before the new one starts. */
const checkExclusive = ({ scale, daemon, update }: LenientSpec): readonly Broken[] => {
  const problems: Broken[] = [];
  if (daemon === true) {
    const message =
      'must not be given with "exclusive": a daemon runs on every node, what is exclusive on one';
    problems.push(problem(['daemon'], message));
  } else if (scale !== undefined && scale > MAX_EXCLUSIVE_SCALE) {
    const message = `must be 0 or 1 with "exclusive", not ${scale}: what is exclusive never runs twice`;
    problems.push(problem(['scale'], message));
  }
  if (update?.strategy !== undefined && update.strategy !== 'recreate') {
    const message =
      'must be "recreate" with "exclusive", or be left out: the old replica stops before the new one starts';
    problems.push(problem(['update', 'strategy'], message));
  }
  return problems;
};

/** What belongs to which way of replacing an old release. */
const STRATEGIES_WITH: Readonly<Record<'keepOldSeconds' | 'steps' | 'judge' | 'promote', readonly string[]>> =
  {
    keepOldSeconds: ['blue-green'],
    steps: ['canary'],
    judge: ['canary'],
    promote: ['blue-green', 'canary'],
  };

const checkStrategy = ({ update, daemon, exclusive }: LenientSpec, places: Places): readonly Broken[] => {
  const problems: Broken[] = [];
  const strategy = update?.strategy ?? (exclusive === true ? 'recreate' : 'rolling');
  const isKnown = places.isWhole(['update', 'strategy']);
  for (const [key, strategies] of Object.entries(STRATEGIES_WITH)) {
    const isGiven = update?.[key as keyof typeof STRATEGIES_WITH] !== undefined;
    if (!isGiven || !isKnown || strategies.includes(strategy)) continue;
    const wanted = strategies.map((one) => `"${one}"`).join(' or ');
    problems.push(
      problem(['update', key], `must be given with "strategy" ${wanted} only, not "${strategy}"`),
    );
  }
  if (daemon === true && (strategy === 'blue-green' || strategy === 'canary')) {
    const message = 'must be "rolling" or "recreate" with "daemon": each node has room for one replica of it';
    problems.push(problem(['update', 'strategy'], message));
  }
  (update?.steps ?? []).forEach(({ weight }, index, steps) => {
    const before = steps[index - 1]?.weight ?? 0;
    if (weight > before) return;
    problems.push(
      problem(['update', 'steps', index, 'weight'], `must be more than ${before}, the one before`),
    );
  });
  return problems;
};

/** What says how much may change at once, or that it does not matter. */
const ROOM = [['exclusive'], ['update', 'strategy'], ['update', 'maxSurge'], ['update', 'maxUnavailable']];

const checkPolicies = (spec: LenientSpec, places: Places): readonly Broken[] => {
  const problems: Broken[] = [];
  const { update, restart } = spec;
  if (
    ROOM.every(places.isWhole) &&
    update?.strategy !== 'recreate' &&
    spec.exclusive !== true &&
    isZero(update?.maxSurge, false) &&
    isZero(update?.maxUnavailable, true)
  ) {
    problems.push(
      problem(['update'], 'must leave room for a change: "maxSurge" and "maxUnavailable" must not both be 0'),
    );
  }
  if (spec.daemon === true && spec.scale !== undefined) {
    problems.push(
      problem(
        ['scale'],
        'must not be given with "daemon": a daemon has one replica on every node that matches',
      ),
    );
  }
  if (spec.exclusive === true) problems.push(...checkExclusive(spec));
  problems.push(...checkStrategy(spec, places));
  const { backoffSeconds, maxBackoffSeconds } = restart ?? {};
  if (backoffSeconds !== undefined && maxBackoffSeconds !== undefined && backoffSeconds > maxBackoffSeconds) {
    problems.push(
      problem(
        ['restart', 'maxBackoffSeconds'],
        `must not be below "backoffSeconds", which is ${backoffSeconds}`,
      ),
    );
  }
  return problems;
};

const checkAffinities = (spec: LenientSpec, places: Places): readonly Broken[] => {
  const register = createRegister();
  return (['near', 'apart'] as const).flatMap((key) =>
    (spec[key] ?? []).flatMap((one, index): readonly Broken[] => {
      const name = typeof one === 'string' ? one : one.microservice;
      const place = typeof one === 'string' ? [key, index] : [key, index, 'microservice'];
      if (name.toLowerCase() === spec.name?.toLowerCase()) {
        return [problem(place, 'must name another microservice; replicas of one are spread anyway')];
      }
      if (spec.daemon === true && typeof one !== 'string' && one.required === true) {
        const path = [key, index, 'required'];
        return [
          problem(path, 'must not be given with "daemon": say with "constraints" which nodes it is for'),
        ];
      }
      const first = register(name.toLowerCase(), { path: place, label: name });
      return first === undefined
        ? []
        : [problem(place, `names ${name} again: ${places.pointer(first.path)} names it already`)];
    }),
  );
};

/**
 * @param wellFormed what can be judged of a specification
 * @param policy what this cluster allows
 * @returns every rule broken, in the order of the document as far as it has one
 */
export const checkRules = ({ spec, places }: WellFormed, policy: ParsePolicy): readonly RuleProblem[] => {
  const { allowHostAccess, reservedPorts = [] } = policy;
  const hostNetwork = spec.hostNetwork === true;
  const containers = spec.containers ?? {};
  const perContainer = Object.entries(containers).flatMap(([name, container]) => {
    const path = ['containers', name];
    return [
      ...checkEnv(path, container, places),
      ...checkVolumes(path, container, allowHostAccess, places),
      ...checkResources(path, container, places),
      ...checkCheck(path, container, places),
      ...checkCapabilities(path, container, allowHostAccess),
      ...checkStopSignal(path, container),
      ...checkLabels(path, container),
      ...(container.privileged === true && !allowHostAccess
        ? [forbidden([...path, 'privileged'], 'is set')]
        : []),
    ];
  });
  const broken: readonly Broken[] = [
    ...perContainer,
    ...checkNames(containers),
    ...checkPorts(containers, places),
    ...checkRoutes(containers, places),
    ...checkPublicPorts(containers, { reservedPorts, hostNetwork }, places),
    ...checkPolicies(spec, places),
    ...checkAffinities(spec, places),
    ...(hostNetwork && !allowHostAccess ? [forbidden(['hostNetwork'], 'uses the network of the host')] : []),
  ];
  return broken.map(({ place, ...rest }) => ({ path: places.pointer(place), ...rest }));
};
