// How soon requests go where documents say.
// Invariant: what counts is when a server was asked, by the server's own record; time runs from before the write to
// Consul is sent.
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { readMembers } from '../../adapters/consul/watch-members';
import pino from 'pino';
import { createWithdrawal } from '../../workers/node/withdrawal';
import { until } from '../peer';
import type { OwnIngress } from './own-ingress';

const LOOK_EVERY_MS = 5;
/** Requests come all the time: when none has come for this long, none is on its way. */
const QUIET_MS = 100;

const nowMs = (): number => performance.timeOrigin + performance.now();

/** Times of requests in a log of a server, in milliseconds since 1970, from where it ended at first. */
const followLog = (file: string): { size(): number; times(): readonly number[] } => {
  const from = statSync(file).size;
  const size = () => statSync(file).size;
  return {
    size,
    times: () => {
      const buffer = Buffer.alloc(size() - from);
      const fd = openSync(file, 'r');
      try {
        readSync(fd, buffer, 0, buffer.length, from);
      } finally {
        closeSync(fd);
      }
      const text = buffer.toString('latin1');
      const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
      return lines.filter((line) => line !== '').map((line) => Number(line) * 1_000);
    },
  };
};

export interface Followed {
  /** From `running` to the first request that it answers. */
  readonly firstMs: number;
  /** From `stopping` to the last request that it gets. */
  readonly lastMs: number;
  /** From `stopping` until all ingresses have confirmed it. */
  readonly confirmedMs: number;
}

/** A replica comes and goes, while there is load on its hostname. @param log of its server, which no other replica uses */
export const followReplica = async (
  ingress: OwnIngress,
  replica: {
    readonly id: string;
    readonly hostname: string;
    readonly endpoint: string;
    readonly log: string;
  },
): Promise<Followed> => {
  const { id, hostname, endpoint, log } = replica;
  const requests = followLog(log);
  const withdrawal = createWithdrawal({
    kv: createKvStore(ingress.consul),
    readMembers: () => readMembers(ingress.consul),
    logger: pino({ level: 'silent' }),
  });
  const startedAt = nowMs();
  await ingress.publish(id, hostname, endpoint);
  await until(`${hostname} leads to ${endpoint}`, async () => requests.times().length > 0, {
    pauseMs: LOOK_EVERY_MS,
  });
  const [first = startedAt] = requests.times();
  const stoppedAt = nowMs();
  const { index } = await ingress.publish(id, hostname, endpoint, { state: 'stopping' });
  const missing = await withdrawal.confirmed(index, ['hostnames'], new AbortController().signal);
  if (missing.length > 0) throw new Error('the ingress has not confirmed that a replica stops');
  const confirmedAt = nowMs();
  for (let before = -1; before !== requests.size(); await delay(QUIET_MS)) before = requests.size();
  const last = requests.times().at(-1) ?? stoppedAt;
  return {
    // The log has whole milliseconds.
    firstMs: Math.max(0, first - startedAt),
    lastMs: Math.max(0, last - stoppedAt),
    confirmedMs: confirmedAt - stoppedAt,
  };
};
