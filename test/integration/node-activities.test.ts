// The node's activities against a real Docker Engine and a real Consul. Each is run twice.
import { mkdirSync, readFileSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { httpRequest } from '../support/http';
import { loadInto, missingProgramImage, webImage, wrongArchitectureImage } from '../support/images';
import { eventually, eventuallyValue } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;

beforeAll(async () => {
  machine = await startNodeMachine();
  for (const image of [await webImage('v1'), await missingProgramImage(), await wrongArchitectureImage()]) {
    await loadInto(machine.engine, image);
  }
}, 60_000);
afterAll(() => machine?.dispose());

const app = { image: 'web:v1', ports: [80], stopGraceSeconds: 2 };
const web = { containers: { app } };

test('a replica is started, registered, published and stopped', async () => {
  const replica = buildStart(web);
  const first = await startOne(machine, replica);
  expect(first).toMatchObject({ kind: 'ready', ports: [{ container: 'app', port: 80, protocol: 'tcp' }] });
  expect(await startOne(machine, replica)).toEqual(first);

  const document = await machine.document(replica);
  expect(document).toMatchObject({ state: 'running', containers: [{ name: 'app', running: true }] });
  const port = document?.ports[0];
  const page = await httpRequest(`http://${port?.address}:${port?.hostPort}/version`);
  expect(page.text.trim()).toBe('web v1');
  expect(await machine.services()).toMatchObject([
    { ID: `${replica.replicaId}-app-80`, Service: 'web', Port: port?.hostPort },
  ]);

  expect(await stopOne(machine, replica)).toEqual({ replicaId: replica.replicaId, existed: true });
  expect(await stopOne(machine, replica)).toEqual({ replicaId: replica.replicaId, existed: false });
  expect(await machine.document(replica)).toBeUndefined();
  expect(await machine.services()).toEqual([]);
  expect(await machine.engine.docker.listContainers({ all: true })).toEqual([]);
});

test('what an attempt left that was killed between create and start is taken up', async () => {
  const replica = buildStart(web);
  const ready = await startOne(machine, replica);
  const [container] = await machine.engine.docker.listContainers();
  const made = await machine.engine.docker.getContainer(container?.Id ?? '').inspect();
  await stopOne(machine, replica);

  await machine.engine.docker.createContainer({
    name: `${replica.replicaId}-app`,
    ...made.Config,
    HostConfig: made.HostConfig,
  });
  // The port that it was made with is kept.
  expect(await startOne(machine, replica)).toEqual(ready);
  expect(await stopOne(machine, replica)).toMatchObject({ existed: true });
});

test('a replica of several containers shares one network, which its sandbox holds', async () => {
  const replica = buildStart({
    containers: {
      app,
      probe: {
        image: 'web:v1',
        command: ['/bin/sh', '-c', 'until wget -qO- 127.0.0.1:80/version; do sleep 0.1; done; sleep 3600'],
        stopGraceSeconds: 0,
      },
    },
  });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  const containers = await machine.engine.docker.listContainers();
  expect(containers.map(({ Names }) => Names[0]).sort()).toEqual([
    `/${replica.replicaId}`,
    `/${replica.replicaId}-app`,
    `/${replica.replicaId}-probe`,
  ]);
  const logs = (): Promise<string> =>
    machine.engine.docker
      .getContainer(`${replica.replicaId}-probe`)
      .logs({ stdout: true, stderr: true })
      .then((output) => output.toString());
  await eventuallyValue(logs, (text) => text.includes('web v1'));
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  expect(await stopOne(machine, replica)).toMatchObject({ existed: true });
  expect(await machine.engine.docker.listContainers({ all: true })).toEqual([]);
}, 30_000);

test('a container that cannot start says why', async () => {
  const cases = [
    ['missing-program:v1', 'start_failed', /\/no\/such\/program/],
    ['wrong-architecture:v1', 'start_failed', /architecture/],
    ['unknown:v1', 'image_not_found', /not on the node/],
  ] as const;
  for (const [image, code, reason] of cases) {
    const replica = buildStart({ containers: { app: { image, ports: [80] } } });
    const expected = { kind: 'failed', code, reason: expect.stringMatching(reason) as string };
    expect(await startOne(machine, replica)).toMatchObject(expected);
    expect(await startOne(machine, replica)).toMatchObject(expected);
    await stopOne(machine, replica);
  }
});

test('an image of another architecture is refused when the machine does not run it, and nothing of it is left', async () => {
  const image = await loadInto(machine.engine, {
    ...(await wrongArchitectureImage()),
    repository: 'foreign',
    architecture: 's390x',
  });
  const replica = buildStart({ containers: { app: { image, ports: [80] } } });
  for (const _time of [1, 2]) {
    expect(await startOne(machine, replica)).toMatchObject({
      kind: 'refused',
      reason: expect.stringMatching(/^the image foreign:v1 has no build for \w+; it has s390x$/) as string,
      missingBuild: { image, available: ['s390x'] },
    });
    expect(await machine.document(replica)).toBeUndefined();
    expect(await machine.engine.docker.listContainers({ all: true })).toEqual([]);
  }
});

test('an image that only says that it is for another architecture runs', async () => {
  const image = await loadInto(machine.engine, {
    ...(await webImage('v1')),
    repository: 'mislabelled',
    architecture: 's390x',
  });
  const replica = buildStart({ containers: { app: { ...app, image } } });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  await stopOne(machine, replica);
});

test('a container without ports that crashes at its start is not ready between two runs', async () => {
  const { ports: _ports, ...bare } = app;
  const replica = buildStart({ containers: { app: { ...bare, env: { CRASH_AT_START: 'no database' } } } });
  expect(await startOne(machine, replica)).toMatchObject({
    kind: 'failed',
    code: 'unhealthy',
    reason: expect.stringMatching(/it ended 3 times: exit code 1/) as string,
  });
  await stopOne(machine, replica);
}, 30_000);

test('a container that crashes at its start fails fast, with its last words', async () => {
  const replica = buildStart({ containers: { app: { ...app, env: { CRASH_AT_START: 'no database' } } } });
  const outcome = await startOne(machine, replica);
  expect(outcome).toMatchObject({
    kind: 'failed',
    code: 'unhealthy',
    reason: expect.stringMatching(/ended 3 times: exit code 1/) as string,
  });
  expect(outcome.kind === 'failed' && outcome.logTail).toContain('no database');
  await stopOne(machine, replica);
});

test('one that ends and cannot be started again says why', async () => {
  const hostPath = join(machine.engine.folder, 'mounted');
  mkdirSync(hostPath);
  const replica = buildStart({
    containers: {
      app: {
        ...app,
        env: { NEVER_LISTEN: 1 },
        volumes: [{ hostPath, path: '/data' }],
        startupGraceSeconds: 2,
      },
    },
  });
  const outcome = startOne(machine, replica);
  const container = machine.engine.docker.getContainer(`${replica.replicaId}-app`);
  await eventually(async () => expect((await container.inspect()).State.Running).toBe(true));
  rmdirSync(hostPath);
  await container.kill();
  expect(await outcome).toMatchObject({
    kind: 'failed',
    code: 'unhealthy',
    reason: expect.stringMatching(/cannot be started again \(.*does not exist.*\) for \d+ s$/) as string,
  });
  await stopOne(machine, replica);
});

test('a job that ends well before it counts as healthy has done what it should', async () => {
  const job = { image: 'web:v1', env: { EXIT_AT_ONCE: 1 } };
  const update = { minHealthySeconds: 5 };
  for (const policy of ['on-failure', 'never'] as const) {
    const replica = buildStart({ containers: { job }, restart: { policy }, update });
    expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready', ports: [] });
    expect(await machine.document(replica)).toMatchObject({
      state: 'exited',
      reason: 'container job ended with exit code 0',
    });
    await stopOne(machine, replica);
  }
  // What else is in the replica has to serve all the same, and a job that fails is a failure.
  const besides = buildStart({ containers: { app, job }, restart: { policy: 'on-failure' } });
  expect(await startOne(machine, besides)).toMatchObject({ kind: 'ready' });
  expect(await machine.services()).toMatchObject([{ ID: `${besides.replicaId}-app-80` }]);
  await stopOne(machine, besides);
  const failing = { ...job, env: { CRASH_AT_START: 'no input' } };
  const failed = buildStart({ containers: { job: failing }, restart: { policy: 'never' }, update });
  expect(await startOne(machine, failed)).toMatchObject({ kind: 'failed', code: 'unhealthy' });
  await stopOne(machine, failed);
}, 30_000);

test('a replica is ready when it has been healthy for as long as asked, begun anew by a check that fails', async () => {
  const minHealthySeconds = 8;
  const hostPath = join(machine.engine.folder, 'watched');
  mkdirSync(hostPath);
  const [healthy, looks] = [join(hostPath, 'healthy'), join(hostPath, 'looks')];
  const command =
    'if [ -e /watched/healthy ]; then echo passed >>/watched/looks; else echo failed >>/watched/looks; exit 1; fi';
  const replica = buildStart({
    containers: {
      app: {
        ...app,
        volumes: [{ hostPath, path: '/watched' }],
        check: { command: ['/bin/sh', '-c', command] },
      },
    },
    update: { minHealthySeconds },
  });
  const untilLast = (word: string): Promise<void> =>
    eventually(() => expect(readFileSync(looks, 'utf8')).toMatch(new RegExp(`${word}\n$`)));
  let isOver = false;
  const outcome = startOne(machine, replica).finally(() => (isOver = true));

  await untilLast('failed');
  writeFileSync(healthy, '');
  await untilLast('passed');
  rmSync(healthy);
  await untilLast('failed');
  const sinceMs = performance.now();
  writeFileSync(healthy, '');
  await untilLast('passed');
  expect(isOver).toBe(false);
  expect(await machine.services()).toEqual([]);

  expect(await outcome).toMatchObject({ kind: 'ready' });
  expect(performance.now() - sinceMs).toBeGreaterThanOrEqual(minHealthySeconds * 1_000);
  expect(await machine.services()).toMatchObject([{ ID: `${replica.replicaId}-app-80` }]);
  await stopOne(machine, replica);
}, 60_000);

test('a container that never listens is told with port and time', async () => {
  const replica = buildStart({
    containers: { app: { ...app, env: { NEVER_LISTEN: 1 }, startupGraceSeconds: 1 } },
  });
  expect(await startOne(machine, replica)).toMatchObject({
    kind: 'failed',
    code: 'unhealthy',
    reason: 'container app: port 80 refused connections for 1 s',
  });
  await stopOne(machine, replica);
});

test('a port that somebody else took is replaced by another', async () => {
  const [first] = (await Promise.all(
    [20_000, 20_001].map(async (port) =>
      machine.engine.docker.createContainer({
        Image: 'web:v1',
        ExposedPorts: { '80/tcp': {} },
        HostConfig: {
          PortBindings: { '80/tcp': [{ HostIp: machine.engine.address, HostPort: String(port) }] },
        },
      }),
    ),
  )) as [{ start(): Promise<unknown>; remove(options: object): Promise<unknown> }, unknown];
  await first.start();
  await machine.restartNode({ config: { hostPortRange: { first: 20_000, last: 20_000 } } });
  const replica = buildStart(web);
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'failed', code: 'no_capacity' });
  await stopOne(machine, replica);
  await machine.restartNode({ config: { hostPortRange: { first: 20_000, last: 20_001 } } });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready', ports: [{ hostPort: 20_001 }] });
  await stopOne(machine, replica);
  for (const { Id } of await machine.engine.docker.listContainers({ all: true })) {
    await machine.engine.docker.getContainer(Id).remove({ force: true });
  }
  await machine.restartNode();
}, 30_000);

test('what does not fit is refused, and nothing of it is left', async () => {
  const replica = buildStart({ containers: { app: { ...app, cpus: 1_000, reserve: { cpus: 1_000 } } } });
  const outcome = await startOne(machine, replica);
  expect(outcome).toMatchObject({
    kind: 'refused',
    reason: expect.stringMatching(/needs 1000 CPUs/) as string,
  });
  expect(await machine.engine.docker.listContainers({ all: true })).toEqual([]);
  expect(await machine.document(replica)).toBeUndefined();
});
