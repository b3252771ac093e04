/**
 * From the specification as users write it to the one that the rest of ContainerOS works with.
 *
 * Invariants: the input has passed the schema and the rules; every default is filled in here and nowhere else; lists
 * whose order means nothing are sorted, so that equal specifications are equal documents.
 */

import { byText } from '../by-text';
import type { z } from 'zod';
import type { JudgeSpec } from '../judgement';
import { normaliseCapability } from './capabilities';
import { sameJson } from './diff';
import { normalisePublicPorts } from './public-ports';
import { normaliseRoutes } from './routes';
import {
  type AffinitySpec,
  type CanaryStep,
  DEFAULT_CPUS,
  DEFAULT_MEMORY_LIMIT_BYTES,
  type CheckSpec,
  type ContainerSpec,
  type CountOrPercent,
  type PortSpec,
  type ReleaseSpec,
  type RestartSpec,
  type UpdateSpec,
  type VolumeSpec,
  type containerSchema,
  type microserviceSpecSchema,
} from './schema';
import { DEFAULT_JUDGE, DEFAULT_KEEP_OLD_MS, DEFAULT_STEPS } from './update-defaults';

export type SchemaSpec = z.output<typeof microserviceSpecSchema>;
export type SchemaContainer = z.output<typeof containerSchema>;

export const DEFAULT_CHECK_TIMING = { intervalMs: 5_000, timeoutMs: 2_000, failures: 3 } as const;
export const DEFAULT_STARTUP_GRACE_MS = 60_000;
export const DEFAULT_STOP_GRACE_MS = 10_000;
export const DEFAULT_BACKOFF_MS = 100;
export const DEFAULT_MAX_BACKOFF_MS = 60_000;
export const DEFAULT_MAX_SURGE: CountOrPercent = { kind: 'percent', percent: 25 };
export const DEFAULT_MAX_UNAVAILABLE: CountOrPercent = { kind: 'count', count: 0 };
/** Without a check only time shows whether a container stays up. */
const MIN_HEALTHY_WITHOUT_CHECK_MS = 1_000;

const toMs = (seconds: number): number => Math.round(seconds * 1_000);

/** JSON knows -0; nothing else does. */
const withoutNegativeZero = (value: number): number => value + 0;

/** `always` where the reference may point at another image tomorrow. */
export const defaultPull = (image: string): 'always' | 'missing' => {
  if (image.includes('@')) return 'missing';
  const tag = /:([^/:]+)$/.exec(image)?.[1];
  return tag === undefined || tag === 'latest' ? 'always' : 'missing';
};

export const parsePort = (port: number | string): Pick<PortSpec, 'port' | 'protocol'> => {
  if (typeof port === 'number') return { port, protocol: 'tcp' };
  const [number, protocol] = port.split('/');
  return { port: Number(number), protocol: protocol === 'udp' ? 'udp' : 'tcp' };
};

/** Two spellings of one path are one path. */
export const normalisePath = (path: string): string =>
  path
    .replace(/\/+/g, '/')
    .replace(/(?:\/\.)+(?=\/|$)/g, '')
    .replace(/\/$/, '') || '/';

const normaliseEnv = (env: NonNullable<SchemaContainer['env']>): readonly string[] => {
  const entries = Array.isArray(env)
    ? env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry] as const)
    : Object.entries(env).map(([key, value]) => [key, `${key}=${String(value)}`] as const);
  return [...entries].sort(([left], [right]) => byText(left, right)).map(([, entry]) => entry);
};

const normalisePorts = (container: SchemaContainer): readonly PortSpec[] => {
  const plain = (container.ports ?? []).map((port) => ({ ...parsePort(port), hostnames: [] }));
  const http = Object.entries(container.httpPorts ?? {}).map(([port, written]) => ({
    port: Number(port),
    protocol: 'tcp' as const,
    ...normaliseRoutes(written),
  }));
  const published = Object.entries(container.publicPorts ?? {}).map(([port, written]) => ({
    ...parsePort(port),
    hostnames: [],
    ...normalisePublicPorts(written),
  }));
  return [...plain, ...http, ...published].sort(
    (left, right) => left.port - right.port || byText(left.protocol, right.protocol),
  );
};

const normaliseVolume = (volume: NonNullable<SchemaContainer['volumes']>[number]): VolumeSpec => {
  const path = normalisePath(volume.path);
  if ('tmpfs' in volume) return { kind: 'tmpfs', path, sizeBytes: volume.sizeBytes ?? null };
  const readOnly = volume.readOnly ?? false;
  if ('hostPath' in volume) return { kind: 'host', hostPath: normalisePath(volume.hostPath), path, readOnly };
  return { kind: 'named', name: volume.name, path, readOnly };
};

const normaliseCheck = (check: NonNullable<SchemaContainer['check']>): CheckSpec => {
  const { intervalSeconds, timeoutSeconds, failures } = check;
  const timing = {
    intervalMs: intervalSeconds === undefined ? DEFAULT_CHECK_TIMING.intervalMs : toMs(intervalSeconds),
    timeoutMs: timeoutSeconds === undefined ? DEFAULT_CHECK_TIMING.timeoutMs : toMs(timeoutSeconds),
    failures: failures ?? DEFAULT_CHECK_TIMING.failures,
  };
  if ('http' in check)
    return { kind: 'http', port: check.http.port, path: check.http.path ?? '/', ...timing };
  if ('tcp' in check) return { kind: 'tcp', port: check.tcp.port, ...timing };
  return { kind: 'command', command: check.command, ...timing };
};

/** What is checked when nothing is said: that each TCP port takes connections. */
export const defaultChecks = (ports: readonly PortSpec[]): readonly CheckSpec[] =>
  ports
    .filter(({ protocol }) => protocol === 'tcp')
    .map(({ port }) => ({ kind: 'tcp', port, ...DEFAULT_CHECK_TIMING }));

const normaliseCapabilities = (names: readonly string[]): readonly string[] =>
  [...new Set(names.map(normaliseCapability))].sort(byText);

const normaliseContainer = (name: string, container: SchemaContainer): ContainerSpec => {
  const ports = normalisePorts(container);
  return {
    name,
    image: container.image,
    pull: container.pull ?? defaultPull(container.image),
    command: container.command ?? null,
    args: container.args ?? null,
    env: normaliseEnv(container.env ?? []),
    ports,
    volumes: (container.volumes ?? [])
      .map(normaliseVolume)
      .sort((left, right) => byText(left.path, right.path)),
    cpus: container.cpus ?? DEFAULT_CPUS,
    memoryLimitBytes: container.memLimit ?? DEFAULT_MEMORY_LIMIT_BYTES,
    // Nothing is reserved unless asked for: limits of a gigabyte would fill a small machine with two containers.
    cpusReserved: withoutNegativeZero(container.reserve?.cpus ?? 0),
    memoryReservedBytes: withoutNegativeZero(container.reserve?.memory ?? 0),
    pidsLimit: container.pidsLimit ?? null,
    user: container.user ?? null,
    workingDirectory:
      container.workingDirectory === undefined ? null : normalisePath(container.workingDirectory),
    readOnly: container.readOnly ?? false,
    dropCapabilities: normaliseCapabilities(container.dropCapabilities ?? []),
    addCapabilities: normaliseCapabilities(container.addCapabilities ?? []),
    privileged: container.privileged ?? false,
    labels: sortKeys(container.labels ?? {}),
    checks: container.check === undefined ? defaultChecks(ports) : [normaliseCheck(container.check)],
    startupGraceMs: toMs(container.startupGraceSeconds ?? DEFAULT_STARTUP_GRACE_MS / 1_000),
    stopSignal: container.stopSignal ?? null,
    stopGraceMs: withoutNegativeZero(toMs(container.stopGraceSeconds ?? DEFAULT_STOP_GRACE_MS / 1_000)),
  };
};

const sortKeys = (record: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(record).sort(([left], [right]) => byText(left, right)));

export const normaliseCount = (count: number | string): CountOrPercent =>
  typeof count === 'number'
    ? { kind: 'count', count: withoutNegativeZero(count) }
    : { kind: 'percent', percent: Number(count.slice(0, -1)) };

const normaliseRestart = (restart: SchemaSpec['restart']): RestartSpec => {
  const backoffMs = toMs(restart?.backoffSeconds ?? DEFAULT_BACKOFF_MS / 1_000);
  return {
    policy: restart?.policy ?? 'always',
    backoffMs,
    maxBackoffMs:
      restart?.maxBackoffSeconds === undefined
        ? Math.max(DEFAULT_MAX_BACKOFF_MS, backoffMs)
        : toMs(restart.maxBackoffSeconds),
  };
};

/** @returns how long a new replica has to stay healthy when the specification does not say */
export const defaultMinHealthyMs = (containers: readonly Pick<ContainerSpec, 'checks'>[]): number =>
  containers.every(({ checks }) => checks.length > 0) ? 0 : MIN_HEALTHY_WITHOUT_CHECK_MS;

/** @returns how a new release replaces the old one when the specification does not say */
export const defaultStrategy = (exclusive: boolean | undefined): UpdateSpec['strategy'] =>
  exclusive === true ? 'recreate' : 'rolling';

type RawUpdate = NonNullable<SchemaSpec['update']>;

const unlessDefault = <K extends string, V>(
  key: K,
  value: V | undefined,
  whenMissing: V,
): { [P in K]?: V } =>
  value === undefined || sameJson(value, whenMissing) ? {} : ({ [key]: value } as { [P in K]?: V });

const keepOldMs = (update: SchemaSpec['update']): number | undefined =>
  update?.keepOldSeconds === undefined ? undefined : withoutNegativeZero(toMs(update.keepOldSeconds));

const normaliseSteps = (steps: RawUpdate['steps']): readonly CanaryStep[] | undefined =>
  steps?.map(({ weight, seconds }) => ({ weight, holdMs: withoutNegativeZero(toMs(seconds)) }));

const normaliseJudge = (judge: RawUpdate['judge']): JudgeSpec | false | undefined =>
  judge === undefined || judge === false
    ? judge
    : {
        maxErrorPercent: withoutNegativeZero(judge.maxErrorPercent ?? DEFAULT_JUDGE.maxErrorPercent),
        maxLatencyFactor: withoutNegativeZero(judge.maxLatencyFactor ?? DEFAULT_JUDGE.maxLatencyFactor),
        minRequests: judge.minRequests ?? DEFAULT_JUDGE.minRequests,
      };

const normaliseUpdate = (
  { update, exclusive }: Pick<SchemaSpec, 'update' | 'exclusive'>,
  containers: readonly ContainerSpec[],
): UpdateSpec => ({
  strategy: update?.strategy ?? defaultStrategy(exclusive),
  maxSurge: update?.maxSurge === undefined ? DEFAULT_MAX_SURGE : normaliseCount(update.maxSurge),
  maxUnavailable:
    update?.maxUnavailable === undefined ? DEFAULT_MAX_UNAVAILABLE : normaliseCount(update.maxUnavailable),
  minHealthyMs:
    update?.minHealthySeconds === undefined
      ? defaultMinHealthyMs(containers)
      : withoutNegativeZero(toMs(update.minHealthySeconds)),
  ...(update?.deadlineSeconds === undefined ? {} : { deadlineMs: toMs(update.deadlineSeconds) }),
  ...unlessDefault('keepOldMs', keepOldMs(update), DEFAULT_KEEP_OLD_MS),
  ...(update?.promote === 'manual' ? { promote: update.promote } : {}),
  ...unlessDefault('steps', normaliseSteps(update?.steps), DEFAULT_STEPS),
  ...unlessDefault('judge', normaliseJudge(update?.judge), DEFAULT_JUDGE),
});

const normaliseAffinities = (affinities: NonNullable<SchemaSpec['near']>): readonly AffinitySpec[] =>
  affinities
    .map((one) =>
      typeof one === 'string'
        ? { microservice: one.toLowerCase(), required: false }
        : { microservice: one.microservice.toLowerCase(), required: one.required ?? false },
    )
    .sort((left, right) => byText(left.microservice, right.microservice));

/** @returns all of the specification but name and scale, with every default filled in */
export const normaliseRelease = (spec: SchemaSpec): ReleaseSpec => {
  const containers = Object.entries(spec.containers)
    .sort(([left], [right]) => byText(left, right))
    .map(([name, container]) => normaliseContainer(name, container));
  return {
    containers,
    restart: normaliseRestart(spec.restart),
    update: normaliseUpdate(spec, containers),
    constraints: sortKeys(spec.constraints ?? {}),
    hostNetwork: spec.hostNetwork ?? false,
    ...(spec.near === undefined || spec.near.length === 0 ? {} : { near: normaliseAffinities(spec.near) }),
    ...(spec.apart === undefined || spec.apart.length === 0
      ? {}
      : { apart: normaliseAffinities(spec.apart) }),
    ...(spec.daemon === true ? { daemon: true } : {}),
    ...(spec.rebalance === false ? { rebalance: false } : {}),
    ...(spec.exclusive === true ? { exclusive: true } : {}),
  };
};
