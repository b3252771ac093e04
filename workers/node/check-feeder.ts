/**
 * Runs the checks that Consul cannot run itself, and tells Consul the results: commands in containers, every check of
 * a container without ports, which is no service, and all checks where no agent knows of the services.
 *
 * Invariants: only changes are told, and now and then what has not changed; a check fails as often in a row as its
 * specification says before it is told; the checks of a container end with the run that they were begun for.
 */

import type Docker from 'dockerode';

import { pause } from '../../adapters/pause';
import type { HealthStatus } from '../../adapters/consul/consul-agent';
import type { ReplicaRegistry } from '../../adapters/consul/replica-registry';
import { checksOf } from '../../adapters/consul/service-definitions';
import { describeCheckFailure, probe } from '../../adapters/docker/probe';
import { portServiceId } from '../../contracts/services';
import type { CheckSpec, ContainerSpec } from '../../domain/spec/schema';
import type { NodeReplica } from './node-memory';

/** Well within the time after which Consul takes silence for failure. */
const REPEAT_AFTER_MS = 3_600_000;

export interface CheckFeeder {
  /** Replaces what was run for the container before. */
  feed(replica: NodeReplica, container: ContainerSpec, containerId: string, address: string): void;
  /** The services of the container were registered again, with checks that pass: what they really say is told anew. */
  tellAgain(replicaId: string, container: string): void;
  stop(replicaId: string, container: string): void;
  stopAll(): void;
}

export interface CheckFeederOptions {
  /** Consul runs none: the services are in its catalogue only. */
  readonly runsAllChecks?: boolean;
}

/** The checks of one container. */
interface Feeding {
  readonly abort: AbortController;
  /** How often its services were registered again meanwhile. */
  registrations: number;
}

/** @param onResult hears of containers without ports, of which Consul knows nothing */
export const createCheckFeeder = (
  docker: Docker,
  registry: Pick<ReplicaRegistry, 'report'>,
  onResult: (replicaId: string, container: string, failure: string | undefined) => void,
  { runsAllChecks = false }: CheckFeederOptions = {},
): CheckFeeder => {
  const running = new Map<string, Feeding>();

  const run = async (
    check: CheckSpec,
    target: { readonly containerId: string; readonly address: string },
    tell: (status: HealthStatus, output: string) => Promise<void>,
    feeding: Feeding,
  ): Promise<void> => {
    const { signal } = feeding.abort;
    let failures = 0;
    let status: HealthStatus = 'passing';
    let told: HealthStatus = 'passing';
    let toldAt = performance.now();
    let { registrations } = feeding;
    while (!signal.aborted) {
      await pause(check.intervalMs, signal);
      if (signal.aborted) return;
      const result = await probe({ docker, ...target }, check, signal);
      if (signal.aborted) return;
      failures = result.kind === 'passed' ? 0 : failures + 1;
      if (failures === 0) status = 'passing';
      else if (failures >= check.failures) status = 'critical';
      if (registrations !== feeding.registrations) {
        registrations = feeding.registrations;
        told = 'passing';
      }
      if (status === told && performance.now() - toldAt < REPEAT_AFTER_MS) continue;
      try {
        await tell(status, result.kind === 'passed' ? 'ok' : result.words);
        told = status;
        toldAt = performance.now();
      } catch {
        continue; // Consul is away: the next turn tells it
      }
    }
  };

  const stop = (key: string): void => {
    running.get(key)?.abort.abort();
    running.delete(key);
  };
  const keyOf = (replicaId: string, container: string): string => `${replicaId}/${container}`;

  return {
    feed: (replica, container, containerId, address) => {
      const { replicaId } = replica.spec;
      const key = keyOf(replicaId, container.name);
      stop(key);
      const isOurs = ({ kind }: CheckSpec): boolean =>
        runsAllChecks || kind === 'command' || container.ports.length === 0;
      if (!container.checks.some(isOurs)) return;
      const feeding: Feeding = { abort: new AbortController(), registrations: 0 };
      running.set(key, feeding);
      container.checks.forEach((check, index) => {
        if (!isOurs(check)) return;
        const services = container.ports.filter((port) =>
          checksOf(container, port).some((one) => one.index === index),
        );
        const tell = async (status: HealthStatus, output: string): Promise<void> => {
          if (services.length === 0) {
            const failure = status === 'passing' ? undefined : describeCheckFailure(check, output);
            onResult(replicaId, container.name, failure);
          }
          await Promise.all(
            services.map((port) =>
              registry.report(portServiceId(replicaId, container.name, port), index, status, output),
            ),
          );
        };
        void run(check, { containerId, address }, tell, feeding);
      });
    },
    tellAgain: (replicaId, container) => {
      const feeding = running.get(keyOf(replicaId, container));
      if (feeding !== undefined) feeding.registrations += 1;
    },
    stop: (replicaId, container) => stop(keyOf(replicaId, container)),
    stopAll: () => {
      for (const key of [...running.keys()]) stop(key);
    },
  };
};
