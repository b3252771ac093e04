/**
 * The API's metrics for Prometheus.
 *
 * Invariant: labels have few values: paths are patterns, never what a client wrote.
 */

import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

import type { NodeStreams } from './node-streams';
import type { ReadModel } from './read-model';

export interface ApiMetrics {
  /** @param route pattern of the path, or `none` */
  answered(route: string, method: string, status: number, seconds: number): void;
}

export interface ApiMetricsDeps {
  readonly registry: Registry;
  readonly readModel: ReadModel;
  readonly nodeStreams: NodeStreams;
  readonly nowMs: () => number;
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

export const createApiMetrics = ({ registry, readModel, nodeStreams, nowMs }: ApiMetricsDeps): ApiMetrics => {
  const registers = [registry];
  const durations = new Histogram({
    name: 'containeros_api_request_duration_seconds',
    help: 'Time from a request to the end of its answer; streams and waits last as long as the client wanted.',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  });
  const refusals = new Counter({
    name: 'containeros_api_unauthenticated_total',
    help: 'Requests without the right password, or held back after too many of these.',
    registers,
  });

  /** A gauge whose values are taken when it is read. */
  const gauge = (
    name: string,
    help: string,
    labelNames: readonly string[],
    values: () => Iterable<readonly [labels: Record<string, string>, value: number]>,
  ) =>
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset();
        for (const [labels, value] of values()) this.set(labels, value);
      },
    });

  const count = function* (label: string, values: readonly string[]) {
    const counts = new Map<string, number>();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    for (const [value, number] of counts) yield [{ [label]: value }, number] as const;
  };

  gauge(
    'containeros_read_model_index',
    'Index of Consul up to which a prefix has been read.',
    ['prefix'],
    () => Object.entries(readModel.status().indexes).map(([prefix, index]) => [{ prefix }, index] as const),
  );
  gauge(
    'containeros_read_model_stale_seconds',
    'How long Consul has not answered; 0 when it does.',
    [],
    () => {
      const { staleSinceMs } = readModel.status();
      return [[{}, staleSinceMs === undefined ? 0 : Math.max(0, nowMs() - staleSinceMs) / 1_000] as const];
    },
  );
  gauge('containeros_microservices', 'Microservices by state.', ['state'], () =>
    count(
      'state',
      readModel.microservices().map(({ state }) => state),
    ),
  );
  gauge('containeros_replicas', 'Replicas by state.', ['state'], () =>
    count(
      'state',
      readModel.replicas().map(({ state }) => state),
    ),
  );
  gauge('containeros_replica_restarts', 'Restarts of containers of the replicas that are there.', [], () => [
    [{}, readModel.replicas().reduce((sum, { restartCount }) => sum + restartCount, 0)] as const,
  ]);

  const ofNodes = (
    name: string,
    help: string,
    value: (node: ReturnType<ReadModel['nodes']>[number]) => number,
  ) =>
    gauge(name, help, ['node'], () =>
      readModel.nodes().map((node) => [{ node: node.id }, value(node)] as const),
    );
  ofNodes('containeros_node_healthy', '1 when the node says that it is healthy.', ({ health }) =>
    health === 'healthy' ? 1 : 0,
  );
  ofNodes('containeros_node_connected', '1 when the node holds its stream to this API open.', ({ id }) =>
    nodeStreams.isConnected(id) ? 1 : 0,
  );
  ofNodes('containeros_node_cpu_percent', 'CPU in use.', ({ cpuPercent }) => cpuPercent);
  ofNodes('containeros_node_memory_bytes', 'Memory of the node.', ({ capacity }) => capacity.memoryBytes);
  ofNodes(
    'containeros_node_memory_available_bytes',
    'Memory that is free.',
    (node) => node.memoryAvailableBytes,
  );
  ofNodes('containeros_node_disk_free_bytes', 'Disk that is free.', ({ diskFreeBytes }) => diskFreeBytes);

  return {
    answered: (route, method, status, seconds) => {
      durations.observe(
        { route, method: METHODS.has(method) ? method : 'other', status: String(status) },
        seconds,
      );
      if (status === 401 || status === 429) refusals.inc();
    },
  };
};
