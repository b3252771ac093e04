/** What the time of a node's event is, by its clock and by that of the head node. */

import { clockAheadOf, dateEvents } from '../../../../api/cluster-port/event-times';
import { eventKvKey, nodeKvKey } from '../../../../contracts/kv';
import type { NodeWrite } from '../../../../contracts/node-documents';
import type { ClusterEvent } from '../../../../domain/model';

const NOW_MS = Date.UTC(2030, 0, 1);
const MINUTE_MS = 60_000;

const put = (atMs: number, suffix = '0123456789'): NodeWrite => ({
  kind: 'put',
  key: eventKvKey(atMs, suffix),
  document: {
    atMs,
    level: 'info',
    type: 'node.started',
    message: 'Node a has started.',
    node: 'a',
  } satisfies ClusterEvent,
});

const timesOf = (writes: readonly NodeWrite[]) =>
  writes.map((write) => {
    const { atMs, nodeAtMs } = (write as { readonly document: ClusterEvent }).document;
    return { atMs: atMs - NOW_MS, nodeAtMs: nodeAtMs === undefined ? undefined : nodeAtMs - NOW_MS };
  });

test.each<readonly [string, number, number | undefined, boolean]>([
  ['of now', 0, 0, true],
  ['that waited for hours', -300 * MINUTE_MS, 0, true],
  ['that waited, of a node that does not say its time', -300 * MINUTE_MS, undefined, true],
  ['of a clock that is a little ahead', 4 * MINUTE_MS, 4 * MINUTE_MS, true],
  ['of a clock that is hours ahead', 180 * MINUTE_MS, 180 * MINUTE_MS, false],
  ['of a clock that is hours behind', -180 * MINUTE_MS, -180 * MINUTE_MS, false],
  ['of the future, though the clock was set since', 180 * MINUTE_MS, 0, false],
  ['of the future, of a node that does not say its time', 180 * MINUTE_MS, undefined, false],
])('an event %s', (_what, atMs, clockAheadMs, isBelieved) => {
  const [dated] = timesOf(dateEvents([put(NOW_MS + atMs)], NOW_MS, clockAheadMs));
  expect(dated).toEqual(isBelieved ? { atMs, nodeAtMs: undefined } : { atMs: 0, nodeAtMs: atMs });
});

test('events that are dated stay in their order, and what is no event stays as it is', () => {
  const other: NodeWrite = { kind: 'remove', key: nodeKvKey('a') };
  const ahead = 180 * MINUTE_MS;
  const writes = [put(NOW_MS + ahead, 'ffffffffff'), other, put(NOW_MS + ahead + 1, '0000000000')];
  const dated = dateEvents(writes, NOW_MS, ahead);
  expect(dated[1]).toBe(other);
  expect(timesOf([dated[0], dated[2]].filter((write) => write !== undefined))).toEqual([
    { atMs: 0, nodeAtMs: ahead },
    { atMs: 2, nodeAtMs: ahead + 1 },
  ]);
  expect(dated.map((write) => 'key' in write && write.key)).toEqual([
    eventKvKey(NOW_MS, 'ffffffffff'),
    nodeKvKey('a'),
    eventKvKey(NOW_MS + 2, '0000000000'),
  ]);
});

test.each<readonly [unknown, number | undefined]>([
  [{ sentAtMs: NOW_MS + 5 }, 5],
  [{ sentAtMs: NOW_MS - 5 }, -5],
  [{}, undefined],
  [{ sentAtMs: '5' }, undefined],
  [{ sentAtMs: Infinity }, undefined],
  [undefined, undefined],
])('how far ahead %j is', (body, aheadMs) => {
  expect(clockAheadOf(body, NOW_MS)).toBe(aheadMs);
});
