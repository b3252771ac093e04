/** When a node counts as silent, over a catalogue of one node's check and a clock that the test turns. */

import { pino } from 'pino';

import { LIVENESS_NOTES, createNodeLiveness } from '../../../../api/cluster-port/node-liveness';
import { NODE_SILENCE_MS } from '../../../../contracts/node-documents';
import type { CatalogueCheck, ServiceCatalogue } from '../../../../contracts/service-catalogue';
import { ContainerOsError } from '../../../../domain/errors';

const checkOf = (node: string, overrides: Partial<CatalogueCheck> = {}): CatalogueCheck => ({
  id: `containeros-node-${node}:alive`,
  node,
  serviceId: `containeros-node-${node}`,
  serviceName: 'containeros-node',
  name: 'Node worker',
  status: 'passing',
  output: 'The node worker is alive.',
  notes: LIVENESS_NOTES,
  index: 1,
  ...overrides,
});

const startLiveness = (...checks: CatalogueCheck[]) => {
  let now = 1_000;
  let isAway = false;
  const written: CatalogueCheck[] = [];
  const catalogue: Pick<ServiceCatalogue, 'checksOfService' | 'transact'> = {
    checksOfService: async (name) => {
      if (isAway) throw new ContainerOsError('unavailable', 'Consul is away.');
      return checks.filter(({ serviceName }) => serviceName === name);
    },
    transact: async (operations) => {
      for (const operation of operations) {
        if (operation.kind !== 'replaceCheck') throw new Error(`${operation.kind} is not made up here`);
        const at = checks.findIndex(({ id }) => id === operation.check.id);
        if (checks[at]?.index !== operation.check.index) return { kind: 'conflict', key: '' };
        checks[at] = { ...operation.check, index: operation.check.index + 1 };
        written.push(operation.check);
      }
      return { kind: 'written', index: 1 };
    },
  };
  const liveness = createNodeLiveness({ catalogue, log: pino({ level: 'silent' }), nowMs: () => now });
  return {
    liveness,
    written,
    /** Looks every 5 s, as long as that. */
    pass: async (ms: number) => {
      for (const end = now + ms; now < end;) {
        now = Math.min(end, now + 5_000);
        await liveness.look();
      }
    },
    freeze: (ms: number) => (now += ms),
    away: (value: boolean) => (isAway = value),
  };
};

test('who is silent turns critical once, and not before its time', async () => {
  const { liveness, written, pass } = startLiveness(checkOf('a'), checkOf('b'));
  await pass(NODE_SILENCE_MS);
  expect(written).toEqual([]);
  expect(liveness.isShownAlive('a')).toBe(true);
  liveness.heard('b');
  await pass(60_000);
  expect(written.map(({ node, status }) => [node, status])).toEqual([
    ['a', 'critical'],
    ['b', 'critical'],
  ]);
  expect(written[0]?.output).toMatch(/nothing for 20 s.*runs on a/);
  expect(liveness.isShownAlive('a')).toBe(false);
});

test('who is heard stays as it is', async () => {
  const { liveness, written, pass } = startLiveness(checkOf('a'));
  for (let turn = 0; turn < 20; turn += 1) {
    liveness.heard('a');
    await pass(5_000);
  }
  expect(written).toEqual([]);
  expect(liveness.isShownAlive('a')).toBe(true);
});

test('only checks that came through the port are touched', async () => {
  const { liveness, written, pass } = startLiveness(
    checkOf('first', { notes: '' }), // its agent runs it
    checkOf('x', { id: 'containeros-node-x:other' }),
    checkOf('x', { id: 'containeros-node-y:alive' }),
    checkOf('dead', { status: 'critical' }),
  );
  await pass(120_000);
  expect(written).toEqual([]);
  expect(['first', 'x', 'y', 'dead'].filter((node) => liveness.isShownAlive(node))).toEqual([]);
});

test('a port that was frozen gives everybody the time again', async () => {
  const { written, freeze, pass } = startLiveness(checkOf('a'));
  await pass(5_000);
  freeze(600_000);
  await pass(NODE_SILENCE_MS);
  expect(written).toEqual([]);
  await pass(10_000);
  expect(written).toHaveLength(1);
});

test('without Consul nobody is known to be shown alive', async () => {
  const { liveness, away, pass } = startLiveness(checkOf('a'));
  await pass(5_000);
  expect(liveness.isShownAlive('a')).toBe(true);
  away(true);
  await expect(liveness.look()).rejects.toMatchObject({ code: 'unavailable' });
  expect(liveness.isShownAlive('a')).toBe(false);
});

test('it looks by itself once started, and no more when stopped', async () => {
  jest.useFakeTimers();
  try {
    const { liveness, written, freeze } = startLiveness(checkOf('a'));
    freeze(15_000); // the port could not be opened at once: until then nobody could be heard
    liveness.start();
    liveness.start();
    const turn = async () => {
      freeze(5_000);
      await jest.advanceTimersByTimeAsync(5_000);
    };
    for (let turns = 0; turns < 4; turns += 1) await turn();
    expect(written).toEqual([]);
    await turn();
    expect(written).toHaveLength(1);
    liveness.stop();
    expect(jest.getTimerCount()).toBe(0);
  } finally {
    jest.useRealTimers();
  }
});
