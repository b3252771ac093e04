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
} from './normalise';
import { sameJson } from './diff';
import {
  DEFAULT_CPUS,
  DEFAULT_MEMORY_LIMIT_BYTES,
  type CheckSpec,
  type ContainerSpec,
  type CountOrPercent,
  type MicroserviceSpec,
  type RawContainerSpec,
  type RawMicroserviceSpec,
  type ReleaseSpec,
  type VolumeSpec,
} from './schema';

/** `{ [key]: value }`, or nothing where the value is the default. */
const unless = <K extends string, V>(isDefault: boolean, key: K, value: V): Partial<Record<K, V>> =>
  isDefault ? {} : ({ [key]: value } as Record<K, V>);

const present = <K extends string, V>(key: K, value: V | null): Partial<Record<K, V>> =>
  value === null ? {} : ({ [key]: value } as Record<K, V>);

const nonEmpty = <K extends string, V extends object>(key: K, value: V): Partial<Record<K, V>> =>
  unless(Object.keys(value).length === 0, key, value);

const toSeconds = (ms: number): number => ms / 1_000;

const volumeToUser = (volume: VolumeSpec): NonNullable<RawContainerSpec['volumes']>[number] => {
  switch (volume.kind) {
    case 'tmpfs':
      return { tmpfs: true, path: volume.path, ...present('sizeBytes', volume.sizeBytes) };
    case 'host':
      return {
        hostPath: volume.hostPath,
        path: volume.path,
        ...unless(!volume.readOnly, 'readOnly', volume.readOnly),
      };
    case 'named':
      return {
        name: volume.name,
        path: volume.path,
        ...unless(!volume.readOnly, 'readOnly', volume.readOnly),
      };
  }
};

const checkToUser = (check: CheckSpec): NonNullable<RawContainerSpec['check']> => {
  const { intervalMs, timeoutMs, failures } = check;
  const timing = {
    ...unless(intervalMs === DEFAULT_CHECK_TIMING.intervalMs, 'intervalSeconds', toSeconds(intervalMs)),
    ...unless(timeoutMs === DEFAULT_CHECK_TIMING.timeoutMs, 'timeoutSeconds', toSeconds(timeoutMs)),
    ...unless(failures === DEFAULT_CHECK_TIMING.failures, 'failures', failures),
  };
  switch (check.kind) {
    case 'http':
      return { http: { port: check.port, ...unless(check.path === '/', 'path', check.path) }, ...timing };
    case 'tcp':
      return { tcp: { port: check.port }, ...timing };
    case 'command':
      return { command: [...check.command], ...timing };
  }
};

const portsToUser = ({ ports }: ContainerSpec): Pick<RawContainerSpec, 'ports' | 'httpPorts'> => {
  const plain = ports.filter(({ hostnames }) => hostnames.length === 0);
  const http = ports.filter(({ hostnames }) => hostnames.length > 0);
  return {
    ...nonEmpty(
      'ports',
      plain.map(({ port, protocol }) => (protocol === 'tcp' ? port : `${port}/${protocol}`)),
    ),
    ...nonEmpty(
      'httpPorts',
      Object.fromEntries(
        http.map(({ port, hostnames }) => [
          port,
          hostnames.length === 1 ? (hostnames[0] ?? '') : [...hostnames],
        ]),
      ),
    ),
  };
};

const containerToUser = (container: ContainerSpec): RawContainerSpec => {
  const { cpusReserved, memoryReservedBytes, checks } = container;
  const [check] = sameJson(checks, defaultChecks(container.ports)) ? [] : checks;
  return {
    image: container.image,
    ...unless(container.pull === defaultPull(container.image), 'pull', container.pull),
    ...present('command', container.command === null ? null : [...container.command]),
    ...present('args', container.args === null ? null : [...container.args]),
    ...nonEmpty('env', [...container.env]),
    ...portsToUser(container),
    ...nonEmpty('volumes', container.volumes.map(volumeToUser)),
    ...unless(container.cpus === DEFAULT_CPUS, 'cpus', container.cpus),
    ...unless(
      container.memoryLimitBytes === DEFAULT_MEMORY_LIMIT_BYTES,
      'memLimit',
      container.memoryLimitBytes,
    ),
    ...nonEmpty('reserve', {
      ...unless(cpusReserved === 0, 'cpus', cpusReserved),
      ...unless(memoryReservedBytes === 0, 'memory', memoryReservedBytes),
    }),
    ...present('pidsLimit', container.pidsLimit),
    ...present('user', container.user),
    ...present('workingDirectory', container.workingDirectory),
    ...unless(!container.readOnly, 'readOnly', container.readOnly),
    ...nonEmpty('dropCapabilities', [...container.dropCapabilities]),
    ...nonEmpty('addCapabilities', [...container.addCapabilities]),
    ...unless(!container.privileged, 'privileged', container.privileged),
    ...nonEmpty('labels', { ...container.labels }),
    ...(check === undefined ? {} : { check: checkToUser(check) }),
    ...unless(
      container.startupGraceMs === DEFAULT_STARTUP_GRACE_MS,
      'startupGraceSeconds',
      toSeconds(container.startupGraceMs),
    ),
    ...present('stopSignal', container.stopSignal),
    ...unless(
      container.stopGraceMs === DEFAULT_STOP_GRACE_MS,
      'stopGraceSeconds',
      toSeconds(container.stopGraceMs),
    ),
  };
};

const countToUser = (count: CountOrPercent): number | string =>
  count.kind === 'count' ? count.count : `${count.percent}%`;

/** @returns all that a user writes of a release: the specification without name and scale */
export const releaseToUser = (release: ReleaseSpec): Omit<RawMicroserviceSpec, 'name' | 'scale'> => {
  const { restart, update } = release;
  return {
    containers: Object.fromEntries(
      release.containers.map((container) => [container.name, containerToUser(container)]),
    ),
    ...nonEmpty('restart', {
      ...unless(restart.policy === 'always', 'policy', restart.policy),
      ...unless(restart.backoffMs === DEFAULT_BACKOFF_MS, 'backoffSeconds', toSeconds(restart.backoffMs)),
      ...unless(
        restart.maxBackoffMs === Math.max(DEFAULT_MAX_BACKOFF_MS, restart.backoffMs),
        'maxBackoffSeconds',
        toSeconds(restart.maxBackoffMs),
      ),
    }),
    ...nonEmpty('update', {
      ...unless(update.strategy === 'rolling', 'strategy', update.strategy),
      ...unless(sameJson(update.maxSurge, DEFAULT_MAX_SURGE), 'maxSurge', countToUser(update.maxSurge)),
      ...unless(
        sameJson(update.maxUnavailable, DEFAULT_MAX_UNAVAILABLE),
        'maxUnavailable',
        countToUser(update.maxUnavailable),
      ),
      ...unless(
        update.minHealthyMs === defaultMinHealthyMs(release.containers),
        'minHealthySeconds',
        toSeconds(update.minHealthyMs),
      ),
    }),
    ...nonEmpty('constraints', { ...release.constraints }),
    ...unless(!release.hostNetwork, 'hostNetwork', release.hostNetwork),
  };
};

/**
 * @param spec a parsed specification, or one put together from what an entity publishes
 * @returns the document that users write; without a scale only if `scaleGiven` is false
 */
export const specToUser = (
  spec: MicroserviceSpec & { readonly scaleGiven?: boolean },
): RawMicroserviceSpec => ({
  name: spec.name,
  ...unless(spec.scaleGiven === false, 'scale', spec.scale),
  ...releaseToUser(spec.release),
});
