/** Whom a stop waits for when Consul tells only part of it. */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

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

/** A Consul that tells these of node n1, one after the other, to each who follows it: the last ones to further ones. */
const withdrawalSaying = (
  toEach: readonly (readonly Told[])[],
  readMembers: () => Promise<ReadonlyMap<string, boolean>> = () =>
    Promise.reject(new Error('Consul does not answer')),
) => {
  let isClosed = false;
  let followers = 0;
  const watching: Pick<KvStore, 'watch'> = {
    watch: (_, handlers) => {
      const tell = ([state, ...later]: readonly Told[]): void => {
        if (state === undefined || isClosed) return;
        const text = JSON.stringify({ id: 'n1', ...state });
        const { index } = state;
        handlers.changed({ index, changed: [{ key: ingressKvKey('n1'), text, index }], removed: [] });
        setImmediate(tell, later);
      };
      isClosed = false;
      setImmediate(tell, toEach[Math.min(followers, toEach.length - 1)] ?? []);
      followers += 1;
      return {
        close: () => (isClosed = true),
        refresh: () => Promise.reject(new Error('nothing is refreshed here')),
        catchUp: () => Promise.reject(new Error('nothing is refreshed here')),
      };
    },
  };
  const withdrawal = createWithdrawal({
    kv: watching as KvStore,
    readMembers,
    patienceMs: 100,
    logger: pino({ level: 'silent' }),
  });
  return { withdrawal, isClosed: () => isClosed };
};

const withdrawalOf = (...states: readonly Told[]) => withdrawalSaying([states]);

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

test('where it matters, who does not confirm soon is waited for longer, and once in vain', async () => {
  const asked: (readonly string[])[] = [];
  const onPatience = (nodeIds: readonly string[]) => void asked.push(nodeIds);
  const late = withdrawalSaying([[{ index: 4 }], [{ index: 4 }, { index: 5 }]]).withdrawal;
  expect(await late.confirmed(5, ['hostnames'], NEVER, onPatience)).toEqual([]);
  expect(asked).toEqual([['n1']]);

  const never = withdrawalSaying([[{ index: 4 }]]).withdrawal;
  expect(await never.confirmed(5, ['hostnames'], NEVER, onPatience)).toEqual(['n1']);
  expect(asked).toHaveLength(2);
  expect(await never.confirmed(6, ['hostnames'], NEVER, onPatience)).toEqual(['n1']);
  expect(asked).toHaveLength(2);
  // It has followed meanwhile, and is late again.
  expect(await never.confirmed(4, ['hostnames'], NEVER, onPatience)).toEqual([]);
  expect(await never.confirmed(6, ['hostnames'], NEVER, onPatience)).toEqual(['n1']);
  expect(asked).toHaveLength(3);
}, 20_000);

test('a node that is lost meanwhile is waited for no longer', async () => {
  let isUp = true;
  const readMembers = async () => {
    const members = new Map([['n1', isUp]]);
    isUp = false;
    return members;
  };
  const { withdrawal } = withdrawalSaying([[{ index: 4 }]], readMembers);
  expect(await withdrawal.confirmed(5, ['hostnames'], NEVER)).toEqual([]);
});

/** When it is told to, talks to itself over UDP for so many seconds, in a network of its own where nobody else does. */
const TALKING = `
import os, socket, subprocess, sys, time
os.nice(-20)
subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(('127.0.0.1', 9))
os.write(1, b'is ready\\n')
sys.stdin.readline()
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    one.sendto(b'a', ('127.0.0.1', 9))
    one.recv(9)
    time.sleep(0.05)
os.write(1, b'ends\\n')
time.sleep(60)
`;

/** Only root may make networks. */
const describeAsRoot = process.getuid?.() === 0 ? describe : describe.skip;

describeAsRoot('of what is reached over UDP', () => {
  const talking: ChildProcess[] = [];
  afterEach(() => talking.splice(0).forEach((child) => child.kill('SIGKILL')));

  const drained = async (seconds: number, hasUdp: boolean, withinMs = 20_000) => {
    const child = spawn('unshare', ['-n', 'python3', '-c', TALKING, String(seconds)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    talking.push(child);
    await once(child.stdout, 'data');
    let hasEnded = false;
    child.stdout.once('data', () => (hasEnded = true));
    child.stdin.write('\n');
    const beginMs = performance.now();
    const ports = { tcp: new Set<number>(), hasUdp };
    await withdrawalOf().withdrawal.drained(child.pid ?? 0, ports, withinMs, NEVER);
    return { hasEnded, tookMs: performance.now() - beginMs };
  };

  test('it is waited for until no datagram has come or gone for a second', async () => {
    const { hasEnded, tookMs } = await drained(1.2, true);
    expect(hasEnded).toBe(true);
    expect(tookMs).toBeGreaterThan(2_000);
    expect(tookMs).toBeLessThan(5_000);
  });

  test('five seconds at most, and no longer than its stop grace', async () => {
    const { hasEnded, tookMs } = await drained(20, true);
    expect(hasEnded).toBe(false);
    expect(tookMs).toBeGreaterThanOrEqual(5_000);
    expect((await drained(20, true, 500)).tookMs).toBeLessThan(3_000);
  }, 20_000);

  test('what is reached over TCP alone does not wait for datagrams', async () => {
    expect((await drained(20, false)).tookMs).toBeLessThan(1_000);
  });
});
