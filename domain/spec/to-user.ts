/**
 * The way back: a normalised specification as its user would write it.
 *
 * Invariants: parsing the result gives the same specification again; what equals a default is left out, so that a
 * document which is read, changed and written back does not freeze today's defaults.
 */

import {
  DEFAULT_BACKOFF_MS,
  DEFAULT_CHECK_TIMING,
  DEFAULT_MAX_BACKOFF_MS,
  DEFAULT_MAX_SURGE,
  DEFAULT_MAX_UNAVAILABLE,
  DEFAULT_STARTUP_GRACE_MS,
  DEFAULT_STOP_GRACE_MS,
  defaultChecks,
  defaultMinHealthyMs,
  defaultPull,
  defaultStrategy,
} from './normalise';
import { scaleOf } from '../exclusive';
import type { JudgeSpec } from '../judgement';
import { isLedTo } from '../ingress/route-options';
import { sameJson } from './diff';
import { publicPortsToUser } from './public-ports';
import { routesToUser } from './routes';
import {
  DEFAULT_CPUS,
  DEFAULT_MEMORY_LIMIT_BYTES,
  type AffinitySpec,
  type CheckSpec,
  type ContainerSpec,
  type CountOrPercent,
  type MicroserviceSpec,
  type RawContainerSpec,
  type RawMicroserviceSpec,
  type ReleaseSpec,
  type UpdateSpec,
  type VolumeSpec,
} from './schema';
import { DEFAULT_JUDGE, judgeOf, keepOldMsOf, stepsOf } from './update-defaults';

type Entry = <K extends string, V>(isDefault: boolean, key: K, value: V) => Partial<Record<K, V>>;

/** `{ [key]: value }`, or nothing where the value is the default. */
const unless: Entry = <K extends string, V>(isDefault: boolean, key: K, value: V) =>
  isDefault ? {} : ({ [key]: value } as Record<K, V>);

const always: Entry = (_isDefault, key, value) => unless(false, key, value);

const present = <K extends string, V>(key: K, value: V | null): Partial<Record<K, V>> =>
  value === null ? {} : ({ [key]: value } as Record<K, V>);

const nonEmpty = <K extends string, V extends object>(key: K, value: V): Partial<Record<K, V>> =>
  unless(Object.keys(value).length === 0, key, value);

const toSeconds = (ms: number): number => ms / 1_000;

const volumeToUser = (volume: VolumeSpec, entry: Entry): NonNullable<RawContainerSpec['volumes']>[number] => {
  switch (volume.kind) {
    case 'tmpfs':
      return { tmpfs: true, path: volume.path, ...present('sizeBytes', volume.sizeBytes) };
    case 'host':
      return {
        hostPath: volume.hostPath,
        path: volume.path,
        ...entry(!volume.readOnly, 'readOnly', volume.readOnly),
      };
    case 'named':
      return {
        name: volume.name,
        path: volume.path,
        ...entry(!volume.readOnly, 'readOnly', volume.readOnly),
      };
  }
};

const checkToUser = (check: CheckSpec, entry: Entry): NonNullable<RawContainerSpec['check']> => {
  const { intervalMs, timeoutMs, failures } = check;
  const timing = {
    ...entry(intervalMs === DEFAULT_CHECK_TIMING.intervalMs, 'intervalSeconds', toSeconds(intervalMs)),
    ...entry(timeoutMs === DEFAULT_CHECK_TIMING.timeoutMs, 'timeoutSeconds', toSeconds(timeoutMs)),
    ...entry(failures === DEFAULT_CHECK_TIMING.failures, 'failures', failures),
  };
  switch (check.kind) {
    case 'http':
      return { http: { port: check.port, ...entry(check.path === '/', 'path', check.path) }, ...timing };
    case 'tcp':
      return { tcp: { port: check.port }, ...timing };
    case 'command':
      return { command: [...check.command], ...timing };
  }
};

const portsToUser = ({
  ports,
}: ContainerSpec): Pick<RawContainerSpec, 'ports' | 'httpPorts' | 'publicPorts'> => {
  const http = ports.filter(isLedTo);
  const published = ports.filter(({ publicPorts }) => publicPorts !== undefined);
  const plain = ports.filter((port) => !http.includes(port) && !published.includes(port));
  return {
    ...nonEmpty(
      'ports',
      plain.map(({ port, protocol }) => (protocol === 'tcp' ? port : `${port}/${protocol}`)),
    ),
    ...nonEmpty('httpPorts', Object.fromEntries(http.map((port) => [port.port, routesToUser(port)]))),
    ...nonEmpty('publicPorts', publicPortsToUser(published)),
  };
};

const containerToUser = (container: ContainerSpec, entry: Entry): RawContainerSpec => {
  const { cpusReserved, memoryReservedBytes, checks } = container;
  const isDefaultCheck = sameJson(checks, defaultChecks(container.ports));
  const [check] = checks;
  return {
    image: container.image,
    ...entry(container.pull === defaultPull(container.image), 'pull', container.pull),
    ...present('command', container.command === null ? null : [...container.command]),
    ...present('args', container.args === null ? null : [...container.args]),
    ...nonEmpty('env', [...container.env]),
    ...portsToUser(container),
    ...nonEmpty(
      'volumes',
      container.volumes.map((volume) => volumeToUser(volume, entry)),
    ),
    ...entry(container.cpus === DEFAULT_CPUS, 'cpus', container.cpus),
    ...entry(
      container.memoryLimitBytes === DEFAULT_MEMORY_LIMIT_BYTES,
      'memLimit',
      container.memoryLimitBytes,
    ),
    ...nonEmpty('reserve', {
      ...entry(cpusReserved === 0, 'cpus', cpusReserved),
      ...entry(memoryReservedBytes === 0, 'memory', memoryReservedBytes),
    }),
    ...present('pidsLimit', container.pidsLimit),
    ...present('user', container.user),
    ...present('workingDirectory', container.workingDirectory),
    ...entry(!container.readOnly, 'readOnly', container.readOnly),
    ...nonEmpty('dropCapabilities', [...container.dropCapabilities]),
    ...nonEmpty('addCapabilities', [...container.addCapabilities]),
    ...entry(!container.privileged, 'privileged', container.privileged),
    ...nonEmpty('labels', { ...container.labels }),
    ...(check === undefined ? {} : entry(isDefaultCheck, 'check', checkToUser(check, entry))),
    ...entry(
      container.startupGraceMs === DEFAULT_STARTUP_GRACE_MS,
      'startupGraceSeconds',
      toSeconds(container.startupGraceMs),
    ),
    ...present('stopSignal', container.stopSignal),
    ...entry(
      container.stopGraceMs === DEFAULT_STOP_GRACE_MS,
      'stopGraceSeconds',
      toSeconds(container.stopGraceMs),
    ),
  };
};

const countToUser = (count: CountOrPercent): number | string =>
  count.kind === 'count' ? count.count : `${count.percent}%`;

const affinitiesToUser = (
  affinities: readonly AffinitySpec[] = [],
): NonNullable<RawMicroserviceSpec['near']> =>
  affinities.map(({ microservice, required }) => (required ? { microservice, required } : microservice));

type RawUpdate = NonNullable<RawMicroserviceSpec['update']>;

const judgeToUser = (judge: JudgeSpec, entry: Entry): RawUpdate['judge'] => ({
  ...entry(judge.maxErrorPercent === DEFAULT_JUDGE.maxErrorPercent, 'maxErrorPercent', judge.maxErrorPercent),
  ...entry(
    judge.maxLatencyFactor === DEFAULT_JUDGE.maxLatencyFactor,
    'maxLatencyFactor',
    judge.maxLatencyFactor,
  ),
  ...entry(judge.minRequests === DEFAULT_JUDGE.minRequests, 'minRequests', judge.minRequests),
});

/** What only blue-green and canary releases have. */
const gradualToUser = (update: UpdateSpec, entry: Entry): Partial<RawUpdate> => {
  const promotion: RawUpdate['promote'] = update.promote ?? 'automatic';
  const promote: Pick<RawUpdate, 'promote'> = entry(promotion === 'automatic', 'promote', promotion);
  switch (update.strategy) {
    case 'rolling':
    case 'recreate':
      return {};
    case 'blue-green':
      return {
        ...entry(update.keepOldMs === undefined, 'keepOldSeconds', toSeconds(keepOldMsOf(update))),
        ...promote,
      };
    case 'canary': {
      const steps = stepsOf(update).map(({ weight, holdMs }) => ({ weight, seconds: toSeconds(holdMs) }));
      const judge = judgeOf(update);
      return {
        ...entry(update.steps === undefined, 'steps', steps),
        ...entry(
          update.judge === undefined,
          'judge',
          judge === undefined ? false : judgeToUser(judge, entry),
        ),
        ...promote,
      };
    }
  }
};

type RawRelease = Omit<RawMicroserviceSpec, 'name' | 'scale'>;

const writeRelease = (release: ReleaseSpec, entry: Entry): RawRelease => {
  const { restart, update } = release;
  return {
    containers: Object.fromEntries(
      release.containers.map((container) => [container.name, containerToUser(container, entry)]),
    ),
    ...nonEmpty('restart', {
      ...entry(restart.policy === 'always', 'policy', restart.policy),
      ...entry(restart.backoffMs === DEFAULT_BACKOFF_MS, 'backoffSeconds', toSeconds(restart.backoffMs)),
      ...entry(
        restart.maxBackoffMs === Math.max(DEFAULT_MAX_BACKOFF_MS, restart.backoffMs),
        'maxBackoffSeconds',
        toSeconds(restart.maxBackoffMs),
      ),
    }),
    ...nonEmpty('update', {
      ...entry(update.strategy === defaultStrategy(release.exclusive), 'strategy', update.strategy),
      ...entry(sameJson(update.maxSurge, DEFAULT_MAX_SURGE), 'maxSurge', countToUser(update.maxSurge)),
      ...entry(
        sameJson(update.maxUnavailable, DEFAULT_MAX_UNAVAILABLE),
        'maxUnavailable',
        countToUser(update.maxUnavailable),
      ),
      ...entry(
        update.minHealthyMs === defaultMinHealthyMs(release.containers),
        'minHealthySeconds',
        toSeconds(update.minHealthyMs),
      ),
      ...(update.deadlineMs === undefined ? {} : { deadlineSeconds: toSeconds(update.deadlineMs) }),
      ...gradualToUser(update, entry),
    }),
    ...nonEmpty('constraints', { ...release.constraints }),
    ...entry(!release.hostNetwork, 'hostNetwork', release.hostNetwork),
    ...nonEmpty('near', affinitiesToUser(release.near)),
    ...nonEmpty('apart', affinitiesToUser(release.apart)),
    ...entry(release.daemon !== true, 'daemon', release.daemon === true),
    ...entry(release.rebalance !== false, 'rebalance', release.rebalance !== false),
    ...entry(release.exclusive !== true, 'exclusive', release.exclusive === true),
  };
};

/** @returns all that a user writes of a release: the specification without name and scale */
export const releaseToUser = (release: ReleaseSpec): RawRelease => writeRelease(release, unless);

/** @returns the same with the values that a user leaves to the defaults */
export const releaseInFull = (release: ReleaseSpec): RawRelease => writeRelease(release, always);

/**
 * @param spec a parsed specification, or one put together from what an entity publishes
 * @returns the document that users write; without a scale only if `scaleGiven` is false
 */
export const specToUser = (
  spec: MicroserviceSpec & { readonly scaleGiven?: boolean },
): RawMicroserviceSpec => ({
  name: spec.name,
  ...unless(
    spec.scaleGiven === false || spec.release.daemon === true,
    'scale',
    scaleOf(spec.release, spec.scale),
  ),
  ...releaseToUser(spec.release),
});
