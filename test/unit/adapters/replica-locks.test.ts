import { createReplicaLocks } from '../../../adapters/docker/replica-locks';

const never = new AbortController().signal;
const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

test('the holder is asked to give up, and whoever waits comes in turn', async () => {
  const locks = createReplicaLocks();
  const order: string[] = [];
  const free: string[] = [];
  locks.onFree((replicaId) => free.push(replicaId));
  const work = (name: string) => async () => void order.push(name);
  const first = locks.tryTake('web-1', async (signal) => {
    await untilAborted(signal);
    order.push('first');
  });
  expect(locks.tryTake('web-1', work('never'))).toBeUndefined();
  await Promise.all([
    first,
    locks.take('web-1', never, work('second')),
    locks.take('web-1', never, work('third')),
  ]);
  expect(order).toEqual(['first', 'second', 'third']);
  expect(free).toEqual(['web-1']);
  expect(locks.isHeld('web-1')).toBe(false);
});

test('who is aborted while waiting gives up at once, and holds up nobody', async () => {
  const locks = createReplicaLocks();
  const free: string[] = [];
  locks.onFree((replicaId) => free.push(replicaId));
  let end: () => void = () => undefined;
  const first = locks.tryTake('web-1', () => new Promise<void>((resolve) => (end = resolve)));
  const begun: string[] = [];
  const take = (name: string, signal: AbortSignal) =>
    locks.take('web-1', signal, async () => void begun.push(name));
  const abort = new AbortController();
  const second = take('second', abort.signal);
  const third = take('third', never);
  abort.abort(new Error('cancelled'));
  await expect(second).rejects.toThrow('cancelled');
  await expect(take('late', abort.signal)).rejects.toThrow('cancelled');
  end();
  await Promise.all([first, third]);
  expect(begun).toEqual(['third']);
  expect(free).toEqual(['web-1']);
});

test('the replica is told to be free also when only somebody who gave up had asked for it', async () => {
  const locks = createReplicaLocks();
  const free: string[] = [];
  locks.onFree((replicaId) => free.push(replicaId));
  const abort = new AbortController();
  const first = locks.tryTake('web-1', untilAborted);
  const second = locks.take('web-1', abort.signal, untilAborted);
  abort.abort(new Error('cancelled'));
  await expect(second).rejects.toThrow('cancelled');
  await first;
  expect(free).toEqual(['web-1']);
});

test('who was aborted before it asks disturbs nobody', async () => {
  const locks = createReplicaLocks();
  const seen = await locks.take('web-1', never, async (signal) => {
    await expect(locks.take('web-1', AbortSignal.abort(), untilAborted)).rejects.toThrow(/abort/);
    return signal.aborted;
  });
  expect(seen).toBe(false);
});
