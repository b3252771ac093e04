// What the keeper of exclusive replicas says while it cannot do what it is there for.
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { pino } from 'pino';

import { createReplicaLocks } from '../../../../adapters/docker/replica-locks';
import type { Leases } from '../../../../contracts/leases';
import { createExclusiveKeeper, type ExclusiveKeeper } from '../../../../workers/node/exclusive-keeper';
import { rememberReplica, type NodeMemory } from '../../../../workers/node/node-memory';
import { buildRelease } from '../../../support/builders';
import { eventually } from '../../../support/wait';

const notMadeUp = (what: string) => () => {
  throw new Error(`${what} is not made up here`);
};

let folder: string;
let keeper: ExclusiveKeeper | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-exclusive-'));
});
afterEach(() => {
  keeper?.stop();
  rmSync(folder, { recursive: true });
});

const createSubject = (list: () => Promise<readonly []>, replicaIds: readonly string[]) => {
  const said: string[] = [];
  const looks: string[] = [];
  const memory: NodeMemory = new Map();
  for (const replicaId of replicaIds) {
    const release = buildRelease(1, { name: 'clock', exclusive: true });
    const spec = {
      project: 'default',
      name: 'clock',
      replicaId,
      release,
      operation: 'deploy.default.clock.1',
    };
    rememberReplica(memory, spec, 0, 'kept');
  }
  const leases: Leases = {
    acquire: notMadeUp('acquire'),
    renew: async () => ({ lastsMs: 15_000, lost: [] }),
    held: notMadeUp('held'),
    release: async () => undefined,
    close: () => undefined,
  };
  const file = join(folder, 'leases.json');
  keeper = createExclusiveKeeper({
    leases,
    memory,
    containers: { list: () => list(), halt: notMadeUp('halt') },
    locks: createReplicaLocks(),
    guard: { ensure: notMadeUp('guard') },
    file,
    eventLog: { append: notMadeUp('append'), stop: notMadeUp('stop') },
    look: (replicaId) => looks.push(replicaId),
    logger: pino(
      { level: 'info' },
      { write: (line: string) => void said.push((JSON.parse(line) as { msg: string }).msg) },
    ),
  });
  return { keeper, said, looks, file };
};

test('while the engine is away it says once of each replica that it cannot be stopped, and once that it can', async () => {
  let asked = 0;
  const subject = createSubject(async () => {
    asked += 1;
    if (asked <= 6) throw new Error('connect ENOENT /var/run/docker.sock');
    return [];
  }, ['clock-1', 'clock-2']);
  subject.keeper.adopt();
  await eventually(() => expect(subject.looks).toEqual(['clock-1', 'clock-2']), { timeoutMs: 10_000 });
  expect(asked).toBe(8);
  const begun = (id: string) =>
    `replica ${id}, which has no lease, cannot be stopped; trying again until it has stopped`;
  const over = (id: string) => `replica ${id}, which has no lease, can be stopped again`;
  expect(subject.said).toEqual([begun('clock-1'), begun('clock-2'), over('clock-1'), over('clock-2')]);
});

test('leases that cannot be written down are told once, and once that they can', async () => {
  const subject = createSubject(notMadeUp('list'), []);
  const release = () => subject.keeper.release({ project: 'default', name: 'clock', replicaId: 'clock-1' });
  await release();
  expect(subject.said).toEqual([]);
  // A folder cannot be written over like a file, whoever tries.
  rmSync(subject.file);
  mkdirSync(subject.file);
  await release();
  await release();
  rmSync(subject.file, { recursive: true });
  await release();
  await release();
  expect(subject.said).toEqual([
    `the leases of this node cannot be written to ${subject.file}; trying again`,
    `the leases of this node are written to ${subject.file} again`,
  ]);
});
