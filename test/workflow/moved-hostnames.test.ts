/** Hostnames that go from one microservice to another. */

import { routesOf } from '../../domain/ingress/routes';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually } from '../support/wait';

import { createSubject, specOf } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const BAD = { kind: 'unhealthy', reason: 'app ended with status 3', logTail: ['boom'] } as const;
const A = 'a.example.com';

test('of two that ask for one hostname at the same time, one gets it and the other one is told', async () => {
  const subjects = [createSubject(use.project), createSubject(use.project)];
  const ended = await Promise.allSettled(subjects.map((subject) => subject.apply({ hostnames: [A] })));
  const states = ended.map(({ status }) => status).sort();
  expect(states).toEqual(['fulfilled', 'rejected']);
  const [winner] = subjects.filter((_, index) => ended[index]?.status === 'fulfilled');
  const [refused] = ended.filter((one) => one.status === 'rejected');
  expect(refused?.reason).toMatchObject({
    code: 'conflict',
    message: `The hostname ${A} belongs to the microservice ${winner?.name}. Use another hostname, take it from there first, or take it over with ?moveHostnames=true (containeros deploy --move-hostnames).`,
  });
  expect(use.project.cluster.hostnames()).toEqual({ [A]: winner?.name });
});

test('a hostname moves when the new one serves, and the old one goes on without it', async () => {
  const { cluster } = use.project;
  const [old, next] = [createSubject(use.project), createSubject(use.project)];
  await old.applied({ hostnames: [A, 'b.example.com'] });
  await old.steady(1, 1);
  const { images } = cluster.releases(old.name)[0] ?? {};

  const hold = cluster.holdStarts();
  const accepted = await next.apply({ hostnames: [A, 'c.example.com'], movesHostnames: true });
  await eventually(() => expect(hold.waiting).toBe(1));
  // Until the new one serves it is where it was; what nobody had is its own at once.
  expect(cluster.hostnames()).toEqual({
    [A]: old.name,
    'b.example.com': old.name,
    'c.example.com': next.name,
  });
  hold.release();
  expect(await next.ended(accepted)).toMatchObject({ state: 'succeeded' });
  expect(cluster.hostnames()).toEqual({
    [A]: next.name,
    'b.example.com': old.name,
    'c.example.com': next.name,
  });

  await old.steady(1, 2);
  const hostnamesOf = (number: number) =>
    cluster.releases(old.name)[number - 1]?.spec.containers[0]?.ports[0]?.hostnames;
  expect(hostnamesOf(1)).toEqual([A, 'b.example.com']);
  expect(hostnamesOf(2)).toEqual(['b.example.com']);
  expect(cluster.releases(old.name)[1]).toMatchObject({ by: { kind: 'system' }, images });
  expect(cluster.events()).toContainEqual(
    expect.objectContaining({
      type: 'hostname.moved',
      message: `${A} moved from ${old.name} to ${next.name}.`,
    }),
  );
  await next.steady(1, 1);
});

test('at each write of the move exactly one has the hostname, and one that serves', async () => {
  const { cluster } = use.project;
  const [old, next] = [createSubject(use.project), createSubject(use.project)];
  await old.applied({ hostnames: [A] });
  const owners: (string | undefined)[] = [];
  const serving: number[] = [];
  const stop = cluster.store.watchWrites(() => {
    const owner = cluster.hostnames()[A];
    owners.push(owner);
    serving.push(cluster.running(owner ?? '').length);
  });
  await next.applied({ hostnames: [A], movesHostnames: true });
  await old.steady(1, 2);
  stop();
  expect(Math.min(...serving)).toBeGreaterThan(0);
  const changes = owners.filter((owner, index) => index === 0 || owner !== owners[index - 1]);
  expect(changes).toEqual([old.name, next.name]);
  // The ingress goes by who has it, whatever replicas of the old one still say.
  const owner = { project: use.project.name, name: next.name };
  const routes = routesOf({
    hostnames: new Map([[A, owner]]),
    replicas: [...old.replicas(), ...next.replicas()],
    isUp: () => true,
  });
  expect(routes.map(({ name }) => name)).toEqual([next.name]);
});

test('a release that fails takes nothing from anybody', async () => {
  const { cluster } = use.project;
  const [old, next] = [createSubject(use.project), createSubject(use.project)];
  await old.applied({ hostnames: [A] });
  await next.applied({ hostnames: ['c.example.com'] });
  cluster.setImage('shop:bad', BAD);
  expect(await next.applied({ image: 'shop:bad', hostnames: [A], movesHostnames: true })).toMatchObject({
    state: 'rolled_back',
  });
  await next.steady(1, 1);
  await old.steady(1, 1);
  expect(cluster.hostnames()).toEqual({ [A]: old.name, 'c.example.com': next.name });
});

const STAGED: readonly (readonly [string, NonNullable<RawMicroserviceSpec['update']>])[] = [
  ['a blue-green release that is promoted by hand', { strategy: 'blue-green', promote: 'manual' }],
  ['a canary', { strategy: 'canary', judge: false, steps: [{ weight: 10, seconds: 86_400 }] }],
];

test.each(STAGED)('who loses a hostname waits for nothing, with %s', async (_, update) => {
  const [old, next] = [createSubject(use.project), createSubject(use.project)];
  await old.applied({ scale: 2, spec: { ...specOf('shop:1', [A, 'b.example.com']), update } });
  await old.steady(2, 1);
  await next.applied({ hostnames: [A], movesHostnames: true });
  await old.steady(2, 2);
  expect(old.document()?.release).toMatchObject({ hostnamesTaken: [A], by: { kind: 'system' } });
  // What its user deploys next takes over as it says.
  const deploy = await old.apply({ spec: { ...specOf('shop:2', ['b.example.com']), update } });
  await old.recorded(deploy, ({ message }) => message.startsWith('stage 1') && !message.includes('start'));
});

test('who loses a hostname while a release takes over in stages does not let it take over by that', async () => {
  const [old, next] = [createSubject(use.project), createSubject(use.project)];
  const update = { strategy: 'blue-green', promote: 'manual', keepOldSeconds: 0 } as const;
  const hostnames = [A, 'b.example.com'];
  await old.applied({ scale: 2, hostnames });
  await old.steady(2, 1);
  const first = await old.apply({ spec: { ...specOf('shop:2', hostnames), update } });
  await old.recorded(first, ({ state }) => state === 'paused');
  await next.applied({ hostnames: [A], movesHostnames: true });
  expect(await old.ended(first)).toMatchObject({ state: 'superseded' });
  await old.documented(
    ({ release, message }) => release.number === 3 && message.includes('until it is promoted'),
  );
  expect(old.weights()).toEqual({ 1: 100, 3: 0 });
  expect(old.running().filter(({ release }) => release === 1)).toHaveLength(2);
  await old.steer('promote');
  await old.steady(2, 3);
});

test('who loses a hostname while a release is paused has one that is paused still', async () => {
  const [old, next] = [createSubject(use.project), createSubject(use.project)];
  const hostnames = [A, 'b.example.com'];
  await old.applied({ scale: 2, hostnames });
  await old.steady(2, 1);
  const hold = use.project.cluster.holdStarts();
  const first = await old.apply({ spec: { ...specOf('shop:2', hostnames), update: { maxSurge: 1 } } });
  await eventually(() => expect(hold.waiting).toBeGreaterThan(0));
  await old.steer('pause');
  hold.release();
  await old.recorded(first, ({ state }) => state === 'paused');
  await next.applied({ hostnames: [A], movesHostnames: true });
  await old.documented(({ release, message }) => release.number === 3 && message.startsWith('v3 is paused'));
  expect(old.running().filter(({ release }) => release === 1).length).toBeGreaterThan(0);
  expect(old.running().filter(({ release }) => release === 3)).toEqual([]);
  await old.steer('resume');
  await old.steady(2, 3);
});
