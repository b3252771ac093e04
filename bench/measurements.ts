// What is measured, of whom, and what it should be.
// Invariant: every metric is described here once; the cases only add values.

/** Proxies that the ingress is compared with. `caddy`: the same program as the ingress has, configured by hand. */
export type ProxyId = 'nginx' | 'haproxy' | 'caddy';

/** Who is measured. `docker-N`: the Docker API called directly, N calls at a time. */
export type PeerId = 'containeros' | 'swarm' | `docker-${number}` | ProxyId;

export type Unit = 's' | 'ms' | 'MB' | '% of a core' | 'requests/s';

export type Target =
  /** Not more than so many times what the direct calls take, and less than Swarm takes. */
  | { readonly kind: 'near-docker'; readonly timesAtMost: number }
  /** Not worse than a Caddy configured by hand by more than so much. */
  | { readonly kind: 'near-caddy'; readonly percentWorse: number; readonly isBetter: 'more' | 'less' }
  /** The median, and where there is a worst value, each single one. */
  | { readonly kind: 'below'; readonly limit: number; readonly worst?: number };

export interface Metric {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  readonly target?: Target;
  /** The metric, by its id, that this one tells more about: it is shown beside it, whoever was measured. */
  readonly beside?: string;
}

const nearDocker = (timesAtMost = 1.3): Target => ({ kind: 'near-docker', timesAtMost });
const nearCaddy = (isBetter: 'more' | 'less'): Target => ({ kind: 'near-caddy', percentWorse: 5, isBetter });
const below = (limit: number, worst?: number): Target => ({
  kind: 'below',
  limit,
  ...(worst === undefined ? {} : { worst }),
});

export const METRICS = {
  deploy: { id: 'deploy', title: 'deploy 6 replicas', unit: 's', target: nearDocker() },
  scaleUp: { id: 'scale-up', title: 'scale from 1 to 30 replicas', unit: 's', target: nearDocker() },
  scaleDown: { id: 'scale-down', title: 'scale from 30 to 1 replica', unit: 's', target: nearDocker() },
  kill: { id: 'kill', title: 'a killed container serves again', unit: 's', target: below(1) },
  killKnown: { id: 'kill-known', title: '… and Consul shows it passing', unit: 's', beside: 'kill' },
  deploys: { id: 'deploys', title: '200 deploys of one replica', unit: 's', target: nearDocker() },
  clusterDeploy: { id: 'cluster-deploy', title: 'deploy 6 replicas', unit: 's', target: nearDocker() },
  clusterScaleUp: {
    id: 'cluster-scale-up',
    title: 'scale from 6 to 60 replicas',
    unit: 's',
    target: nearDocker(1.25),
  },
  clusterScaleDown: { id: 'cluster-scale-down', title: 'scale from 60 to 6 replicas', unit: 's' },
  clusterKill: {
    id: 'cluster-kill',
    title: 'a killed container serves again',
    unit: 's',
    target: below(1),
  },
  clusterKillKnown: {
    id: 'cluster-kill-known',
    title: '… and Consul shows it passing',
    unit: 's',
    beside: 'cluster-kill',
  },
  lossTrafficOff: {
    id: 'loss-traffic-off',
    title: 'a node is lost: nobody is led there',
    unit: 's',
    target: below(3),
  },
  lossServes: {
    id: 'loss-serves',
    title: '… all replicas serve on other nodes',
    unit: 's',
    target: below(5, 8),
  },
  lossReturn: { id: 'loss-return', title: '… it is back: no container is too many', unit: 's' },
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

/** Of a machine that has joined. Without a target: what runs there besides the worker and the agent is in it too. */
export const memberMetric = (
  kind: 'memory' | 'cpu',
  what: 'worker and Consul agent' | 'in all',
  where: string,
): Metric => {
  const title = `${kind === 'memory' ? 'memory' : 'CPU'}${what === 'in all' ? '' : ' of'} ${what}, ${where}`;
  const unit = kind === 'memory' ? 'MB' : '% of a core';
  const target = kind === 'memory' ? below(200) : below(2);
  return { id: `member ${title}`, title, unit, ...(what === 'in all' ? {} : { target }) };
};

/** What of requests through a proxy is measured. */
export type RequestFigure = 'rate' | 'p50' | 'p99' | 'cpu';

const REQUEST_FIGURES: Readonly<Record<RequestFigure, { title: string; unit: Unit; target?: Target }>> = {
  rate: { title: 'requests', unit: 'requests/s', target: nearCaddy('more') },
  p50: { title: '50th percentile', unit: 'ms' },
  p99: { title: '99th percentile', unit: 'ms', target: nearCaddy('less') },
  cpu: { title: 'CPU for 100,000 requests', unit: 's', target: nearCaddy('less') },
};

/** @param load what is asked for, and how */
export const requestMetric = (load: string, figure: RequestFigure): Metric => {
  const { title, ...rest } = REQUEST_FIGURES[figure];
  return { id: `requests ${load}, ${figure}`, title: `${load}: ${title}`, ...rest };
};

/** How soon requests follow what documents say. @param limitMs that the median is to be below */
export const followMetric = (what: string, limitMs?: number): Metric => ({
  id: `follow ${what}`,
  title: what,
  unit: 'ms',
  ...(limitMs === undefined ? {} : { target: below(limitMs) }),
});

export const ingressMemoryMetric = (what: string): Metric => ({
  id: `ingress memory, ${what}`,
  title: `memory (RSS), ${what}`,
  unit: 'MB',
});

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
