import type { ContainerInspectInfo } from 'dockerode';

import { createUpkeep, noteEnd, noteKill, noteSeen, noteTold } from '../../../../workers/node/upkeep';
import { rememberReplica } from '../../../../workers/node/node-memory';
import { buildRelease } from '../../../support/builders';

const replica = rememberReplica(
  new Map(),
  {
    project: 'default',
    name: 'web',
    replicaId: 'web-1',
    release: buildRelease(1, { restart: { backoffSeconds: 1, maxBackoffSeconds: 4 } }),
    operation: 'o',
  },
  0,
  'kept',
);

let runs = 0;
const running = (): ContainerInspectInfo => {
  runs += 1;
  const State = { Running: true, StartedAt: new Date(Date.now() + runs).toISOString(), Status: 'running' };
  const HostConfig = { NetworkMode: 'host' };
  return { Id: 'c', State, HostConfig } as unknown as ContainerInspectInfo;
};

test('one that keeps ending waits longer each time, and not at all after a stable run', () => {
  const upkeep = createUpkeep();
  const waits: number[] = [];
  let now = 100_000;
  for (const runMs of [500, 500, 500, 500, 500, 20_000, 500]) {
    noteSeen(upkeep, running(), now);
    now += runMs;
    noteEnd(upkeep, replica, now);
    waits.push(upkeep.startAt - now);
  }
  expect(waits).toEqual([0, 1_000, 2_000, 4_000, 4_000, 0, 0]);
  expect(upkeep.ends).toHaveLength(7);
});

test('one that is killed from outside has not failed', () => {
  const upkeep = createUpkeep();
  for (let now = 100_000; now < 110_000; now += 1_000) {
    noteSeen(upkeep, running(), now);
    noteKill(upkeep);
    noteEnd(upkeep, replica, now);
    expect(upkeep.startAt).toBe(now);
  }
  expect(upkeep.ends).toEqual([]);
  // Its next run is judged by itself.
  noteSeen(upkeep, running(), 200_000);
  noteEnd(upkeep, replica, 200_500);
  expect(upkeep.ends).toEqual([200_500]);
});

test('what was told of another run says nothing of this one', () => {
  const seen = running();
  const startedAtMs = Date.parse(seen.State.StartedAt);
  const told = { name: 'main', containerId: 'c', image: 'web', imageId: 'i', running: true, restartCount: 0 };
  const isDoubtedAfter = (changed: object | undefined): boolean => {
    const upkeep = createUpkeep();
    noteSeen(upkeep, seen, 100_000);
    noteTold(upkeep, seen, changed === undefined ? undefined : { ...told, startedAtMs, ...changed });
    return upkeep.isDoubted;
  };
  expect(isDoubtedAfter({})).toBe(true);
  expect(isDoubtedAfter(undefined)).toBe(true);
  expect(isDoubtedAfter({ startedAtMs: startedAtMs - 1 })).toBe(false);
  expect(isDoubtedAfter({ containerId: 'b' })).toBe(false);
});
