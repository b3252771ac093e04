// Measures requests through proxies, in rounds that alternate their order.
import type { Measurements, PeerId } from '../measurements';
import { requestMetric } from '../measurements';
import { orderOf } from '../statistics';
import { runWrk, type Running } from './programs';

export interface Measurable {
  readonly id: PeerId;
  readonly port: number;
  /** What does the work of a request. */
  readonly running: () => Running;
}

export interface RequestLoad {
  readonly title: string;
  readonly hostname: string;
  readonly path?: string;
  /** Whether it is asked for by TLS; the hostname is then looked up, as wrk tells no other one. */
  readonly isTls?: boolean;
  /** Whether each request has a connection of its own. */
  readonly closes?: boolean;
}

const CONNECTIONS = 32;
const SECONDS = 2;
const PER_REQUESTS = 100_000;

export const measureRequests = async (options: {
  readonly peers: readonly Measurable[];
  readonly loads: readonly RequestLoad[];
  readonly rounds: number;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
}): Promise<void> => {
  const { peers, loads, rounds, measurements, say } = options;
  for (const load of loads) {
    for (const peer of peers) await ask(peer, load, 1);
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const load of loads) {
      const told: string[] = [];
      for (const peer of orderOf(peers, round)) {
        const { rate, p50, p99, cpu } = await ask(peer, load, SECONDS);
        const figures = { rate, p50, p99, cpu };
        for (const figure of ['rate', 'p50', 'p99', 'cpu'] as const) {
          measurements.add(requestMetric(load.title, figure), peer.id, figures[figure]);
        }
        told.push(`${peer.id} ${rate.toFixed(0)}/s p99 ${p99.toFixed(1)} ms CPU ${cpu.toFixed(2)} s`);
      }
      say(`round ${round + 1}, ${load.title}: ${told.join('; ')}`);
    }
  }
};

const ask = async (
  { port, running }: Measurable,
  { hostname, path = '/', closes = false, isTls = false }: RequestLoad,
  seconds: number,
): Promise<{ rate: number; p50: number; p99: number; cpu: number }> => {
  const before = running().cpuSeconds();
  const { requests, requestsPerSecond, p50Ms, p99Ms } = await runWrk({
    url: `${isTls ? `https://${hostname}` : 'http://127.0.0.1'}:${port}${path}`,
    hostname,
    connections: CONNECTIONS,
    seconds,
    closes,
  });
  const used = running().cpuSeconds() - before;
  return { rate: requestsPerSecond, p50: p50Ms, p99: p99Ms, cpu: (used / requests) * PER_REQUESTS };
};
