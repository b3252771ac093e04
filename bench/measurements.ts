// What is measured, of whom, and what it should be.
// Invariant: every metric is described here once; the cases only add values.

/** Who is measured. `docker-N`: the Docker API called directly, N calls at a time. */
export type PeerId = 'containeros' | 'swarm' | `docker-${number}`;

export type Unit = 's' | 'ms' | 'MB' | '% of a core';

export type Target =
  /** Not more than so many times what the direct calls take, and less than Swarm takes. */
  | { readonly kind: 'near-docker'; readonly timesAtMost: number }
  | { readonly kind: 'below'; readonly limit: number };

export interface Metric {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  readonly target?: Target;
}

const TIMES_DIRECT_CALLS = 1.3;
const nearDocker: Target = { kind: 'near-docker', timesAtMost: TIMES_DIRECT_CALLS };
const below = (limit: number): Target => ({ kind: 'below', limit });

export const METRICS = {
  deploy: { id: 'deploy', title: 'deploy 6 replicas', unit: 's', target: nearDocker },
  scaleUp: { id: 'scale-up', title: 'scale from 1 to 30 replicas', unit: 's', target: nearDocker },
  scaleDown: { id: 'scale-down', title: 'scale from 30 to 1 replica', unit: 's', target: nearDocker },
  kill: { id: 'kill', title: 'a killed container serves again', unit: 's', target: below(1) },
  killKnown: { id: 'kill-known', title: '… and Consul shows it passing', unit: 's' },
  deploys: { id: 'deploys', title: '200 deploys of one replica', unit: 's', target: nearDocker },
} as const satisfies Record<string, Metric>;

/** Latencies of the API's answers: each round gives one value of each percentile. */
export const readMetric = (what: string, load: string, percent: number): Metric => ({
  id: `read ${what}, ${load}, p${percent}`,
  title: `${what}, ${load}, ${percent}th percentile`,
  unit: 'ms',
  ...(percent === 99 ? { target: below(10) } : {}),
});

export const idleMetric = (kind: 'memory' | 'cpu', state: string): Metric =>
  kind === 'memory'
    ? { id: `idle memory, ${state}`, title: `memory in all, ${state}`, unit: 'MB', target: below(400) }
    : { id: `idle cpu, ${state}`, title: `CPU in all, ${state}`, unit: '% of a core', target: below(3) };

export interface Measured {
  readonly metric: Metric;
  readonly values: ReadonlyMap<PeerId, readonly number[]>;
}

export interface Measurements {
  readonly add: (metric: Metric, peer: PeerId, value: number) => void;
  /** In the order in which they were first measured. */
  readonly all: () => readonly Measured[];
}

export const createMeasurements = (): Measurements => {
  const measured = new Map<string, { metric: Metric; values: Map<PeerId, number[]> }>();
  return {
    add: (metric, peer, value) => {
      const entry = measured.get(metric.id) ?? { metric, values: new Map<PeerId, number[]>() };
      measured.set(metric.id, entry);
      entry.values.set(peer, [...(entry.values.get(peer) ?? []), value]);
    },
    all: () => [...measured.values()],
  };
};

export const isDirect = (peer: PeerId): peer is `docker-${number}` => peer.startsWith('docker-');
