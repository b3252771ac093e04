// How fast the API answers reads when there are many microservices, each read checked for its status.
// Invariant: load is bounded: a number of requests, from few connections, to the machine's loopback only.
import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { specOf, type Bed } from '../bed';
import { change } from '../../test/support/product';
import { readMetric, type Measurements } from '../measurements';
import { pooled, timed, type Peer } from '../peer';
import { percentile } from '../statistics';

const RUNNING = 200;
const WITHOUT_REPLICAS = 300;
const CHANGES_AT_ONCE = 16;
const PERCENTILES = [50, 90, 99] as const;
const REQUEST_TIMEOUT_MS = 10_000;
const RATE_PER_SECOND = 50;
const SETTLE_MS = 5_000;

type Load =
  | { readonly kind: 'rate'; readonly perSecond: number; readonly count: number }
  | { readonly kind: 'closed'; readonly clients: number; readonly count: number };

const LOADS: readonly Load[] = [
  { kind: 'rate', perSecond: RATE_PER_SECOND, count: 250 },
  { kind: 'closed', clients: 1, count: 1000 },
  { kind: 'closed', clients: 8, count: 2000 },
];

export const readsCase = async (options: {
  readonly bed: Bed;
  readonly peer: Peer;
  readonly rounds: number;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
}): Promise<void> => {
  const { bed, peer, rounds, measurements, say } = options;
  const running = Array.from({ length: RUNNING }, (_, index) => `read-${index}`);
  const idle = Array.from({ length: WITHOUT_REPLICAS }, (_, index) => `idle-${index}`);
  try {
    await peer.deployMany(running, CHANGES_AT_ONCE);
    const took = await timed(() =>
      pooled(idle, CHANGES_AT_ONCE, (name) =>
        change(bed.instance, 'POST', '/v1/microservices', specOf(bed, name, 0)),
      ),
    );
    say(
      `${RUNNING} run, ${WITHOUT_REPLICAS} more without replicas were made in ${(took / 1000).toFixed(1)} s`,
    );
    await delay(SETTLE_MS);
    const reads = {
      'GET one microservice': (index: number) => `/v1/microservices/${running[index % running.length]}`,
      'GET all microservices': () => '/v1/microservices',
    };
    for (let round = -1; round < rounds; round += 1) {
      for (const [what, pathOf] of Object.entries(reads)) {
        for (const load of LOADS) {
          const latencies = await measure(bed, load, pathOf);
          const values = PERCENTILES.map((percent) => percentile(latencies, percent));
          say(
            `${round === -1 ? 'warm-up' : `round ${round + 1}`}  ${what}, ${loadName(load)}: ` +
              PERCENTILES.map((percent, index) => `p${percent} ${values[index]?.toFixed(2)} ms`).join(', '),
          );
          if (round === -1) continue;
          PERCENTILES.forEach((percent, index) =>
            measurements.add(readMetric(what, loadName(load), percent), peer.id, values[index] ?? NaN),
          );
        }
      }
    }
  } finally {
    await peer.clear();
  }
};

export const loadName = (load: Load): string =>
  load.kind === 'rate'
    ? `${load.perSecond} a second`
    : `${load.clients} client${load.clients === 1 ? '' : 's'} without pause`;

/** @returns milliseconds from sending a request to the last byte of its answer */
const measure = async (bed: Bed, load: Load, pathOf: (index: number) => string): Promise<number[]> => {
  const agent = new Agent({ keepAlive: true, maxSockets: load.kind === 'rate' ? 8 : load.clients });
  const read = (index: number): Promise<number> => timed(() => get(bed, agent, pathOf(index)));
  const indices = Array.from({ length: load.count }, (_, index) => index);
  try {
    if (load.kind === 'closed') return await pooled(indices, load.clients, read);
    const startedAt = performance.now();
    const pending: Promise<number>[] = [];
    for (const index of indices) {
      const dueMs = startedAt + (index * 1000) / load.perSecond - performance.now();
      if (dueMs > 0) await delay(dueMs);
      pending.push(read(index));
    }
    return await Promise.all(pending);
  } finally {
    agent.destroy();
  }
};

const get = (bed: Bed, agent: Agent, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const outgoing = request(
      {
        agent,
        host: bed.instance.engine.loopbackAddress,
        port: bed.instance.apiPort,
        path,
        headers: { host: `127.0.0.1:${bed.instance.apiPort}`, authorization: 'Bearer dev' },
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      },
      (response) => {
        response.resume();
        response.once('end', () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`GET ${path}: ${response.statusCode}`)),
        );
        response.once('error', reject);
      },
    );
    outgoing.once('error', reject);
    outgoing.end();
  });
