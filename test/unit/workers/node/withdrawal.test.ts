/** Whom a stop waits for when Consul tells only part of it. */

import pino from 'pino';

import { ingressKvKey } from '../../../../contracts/kv';
import type { KvStore } from '../../../../contracts/kv-store';
import { createWithdrawal } from '../../../../workers/node/withdrawal';

const NEVER = new AbortController().signal;

interface Told {
  readonly index: number;
  readonly publicPorts?: {
    readonly index: number;
    readonly trafficIndex: number;
    readonly hostnamesIndex: number;
  };
}

/** A Consul that tells these of node n1, one after the other. */
const withdrawalOf = (...states: readonly Told[]) => {
  let isClosed = false;
  const watching: Pick<KvStore, 'watch'> = {
    watch: (_, handlers) => {
      const tell = ([state, ...later]: readonly Told[]): void => {
        if (state === undefined || isClosed) return;
        const text = JSON.stringify({ id: 'n1', ...state });
        const { index } = state;
        handlers.changed({ index, changed: [{ key: ingressKvKey('n1'), text, index }], removed: [] });
        setImmediate(tell, later);
      };
      setImmediate(tell, states);
      return {
        close: () => (isClosed = true),
        refresh: () => Promise.reject(new Error('nothing is refreshed here')),
      };
    },
  };
  const withdrawal = createWithdrawal({
    kv: watching as KvStore,
    readMembers: () => Promise.reject(new Error('Consul does not answer')),
    logger: pino({ level: 'silent' }),
  });
  return { withdrawal, isClosed: () => isClosed };
};

test('a Consul that does not tell who is up keeps no replica from being stopped', async () => {
  const { withdrawal, isClosed } = withdrawalOf({ index: 4 }, { index: 5 });
  expect(await withdrawal.confirmed(5, ['hostnames'], NEVER)).toEqual([]);
  expect(isClosed()).toBe(true);
});

const behind = { index: 5, publicPorts: { index: 4, trafficIndex: 0, hostnamesIndex: 0 } };

test('who is reached by hostnames alone does not wait for the forwarder', async () => {
  expect(await withdrawalOf(behind).withdrawal.confirmed(5, ['hostnames'], NEVER)).toEqual([]);
});

test.each([{ ways: ['publicPorts'] as const }, { ways: ['hostnames', 'publicPorts'] as const }])(
  'who is reached by public ports does: $ways',
  async ({ ways }) => {
    const still = withdrawalOf(behind);
    expect(await still.withdrawal.confirmed(5, ways, NEVER)).toEqual(['n1']);
    const followed = { ...behind, publicPorts: { ...behind.publicPorts, index: 5 } };
    expect(await withdrawalOf(behind, followed).withdrawal.confirmed(5, ways, NEVER)).toEqual([]);
  },
);
