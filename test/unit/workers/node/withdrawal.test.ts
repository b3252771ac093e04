/** Whom a stop waits for when Consul tells only part of it. */

import pino from 'pino';

import { ingressKvKey } from '../../../../contracts/kv';
import type { KvStore } from '../../../../contracts/kv-store';
import { createWithdrawal } from '../../../../workers/node/withdrawal';

const NEVER = new AbortController().signal;

test('a Consul that does not tell who is up keeps no replica from being stopped', async () => {
  const said = (index: number) => ({
    index,
    changed: [{ key: ingressKvKey('n1'), text: JSON.stringify({ id: 'n1', index }), index }],
    removed: [],
  });
  let isClosed = false;
  const watching: Pick<KvStore, 'watch'> = {
    watch: (_, handlers) => {
      setImmediate(() => {
        handlers.changed(said(4));
        setImmediate(() => handlers.changed(said(5)));
      });
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
  expect(await withdrawal.confirmed(5, NEVER)).toEqual([]);
  expect(isClosed).toBe(true);
});
