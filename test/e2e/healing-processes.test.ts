// kill -9 of every part of ContainerOS, of all at once, and of the machine: what was accepted happens, what served
// goes on serving, nothing is lost and nothing doubled.
import { ROLES, type Role } from '../support/instance';
import { assertConverged } from '../support/checker';
import {
  apply,
  applyAsync,
  change,
  containersOf,
  ended,
  endpoints,
  page,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'lasting';

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
  await apply(bed.instance, webSpec(SERVICE, await bed.web('v1'), { scale: 2 }));
  await bed.web('v2');
}, 120_000);

// What a failed test left down must not fail those after it.
beforeEach(() => bed.instance.start(), 60_000);

afterAll(() => bed?.dispose(), 60_000);

const ready = (timeoutMs = 30_000): Promise<void> =>
  eventually(
    async () => {
      const answer = await bed.instance.api('GET', '/readyz', { timeoutMs: 2_000 });
      if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
    },
    { timeoutMs, describe: 'ContainerOS is ready again' },
  );

/** Endpoints as somebody would have them who asked before the trouble began. */
async function watchService(): Promise<() => Promise<void>> {
  const known = await endpoints(bed.instance, SERVICE);
  expect(known).toHaveLength(2);
  const failures: string[] = [];
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      for (const endpoint of known) {
        const answer = await page(bed.instance, endpoint).catch(String);
        if (!answer.startsWith('200')) failures.push(`${endpoint}: ${answer}`);
      }
    }
  })();
  return async () => {
    isOver = true;
    await watching;
    expect(failures).toEqual([]);
  };
}

for (const role of ROLES) {
  scenario(
    `kill -9 of ${role}: containers serve on, and changes are made again soon`,
    () => bed,
    async (running) => {
      const { instance } = running;
      const stillServes = await watchService();
      const containers = (await containersOf(running, SERVICE)).map(({ Id }) => Id).sort();
      const old = instance.pid(role);
      instance.kill(role);
      await eventually(() => expect(instance.pid(role)).not.toBe(old));
      await ready();
      await assertConverged(running);
      await stillServes();
      expect((await containersOf(running, SERVICE)).map(({ Id }) => Id).sort()).toEqual(containers);
      await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 3 });
      await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 2 });
      await assertConverged(running);
    },
  );
}

let version = 1;
/** Each deploy is of a version other than the last. */
const nextVersion = (): string => {
  version = version === 1 ? 2 : 1;
  return `v${version}`;
};

/** When in a deploy the blow falls: at once, when the first new container is there, and so on. */
const MOMENTS = ['at once', 'when the first new container exists'] as const;

for (const role of ROLES) {
  for (const moment of MOMENTS) {
    scenario(
      `kill -9 of ${role} in the middle of a deploy, ${moment}`,
      () => bed,
      async (running) => {
        await strikeDuringDeploy(running, moment, () => running.instance.kill(role));
      },
    );
  }
}

scenario(
  'kill -9 of everything at once in the middle of a deploy',
  () => bed,
  async (running) => {
    const { instance } = running;
    await strikeDuringDeploy(running, 'when the first new container exists', () => instance.killAll());
  },
);

scenario(
  'a machine that loses power in the middle of a deploy',
  () => bed,
  async (running) => {
    const { instance, engine } = running;
    await strikeDuringDeploy(running, 'when the first new container exists', async () => {
      await engine.powerOff();
      await engine.powerOn();
      await instance.start();
    });
  },
);

scenario(
  'a request that was answered is not lost when everything is killed at that moment',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const { id } = await applyAsync(instance, webSpec('accepted', await web('v1'), { scale: 3 }));
    await instance.killAll();
    await instance.start();
    expect((await ended(instance, id)).state).toBe('succeeded');
    await serving(instance, 'accepted', 3, 'web v1');

    const removal = await instance.api('DELETE', '/v1/microservices/accepted');
    expect(removal.status).toBe(202);
    await instance.killAll();
    await instance.start();
    await eventually(async () => {
      expect((await instance.api('GET', '/v1/microservices/accepted')).status).toBe(404);
      expect(await containersOf(running, 'accepted')).toEqual([]);
    });
    await assertConverged(running);
  },
);

scenario(
  'a supervisor that is killed leaves nothing that hinders the next start',
  () => bed,
  async (running) => {
    const { instance } = running;
    const stillServes = await watchService();
    instance.kill('supervisor');
    await eventually(() => expect(instance.isRunning()).toBe(false));
    await instance.start();
    await stillServes();
    await assertConverged(running);
    for (const role of ROLES) expect(instance.pid(role)).toBeGreaterThan(0);
  },
);

for (const role of ['node', 'control-plane', 'consul', 'temporal'] satisfies Role[]) {
  scenario(
    `${role} hangs for a while, and goes on`,
    () => bed,
    async (running) => {
      const { instance } = running;
      const stillServes = await watchService();
      await instance.freeze(role);
      const answer = await instance
        .api('PATCH', `/v1/microservices/${SERVICE}`, { body: { scale: 3 }, timeoutMs: 3_000 })
        .catch(() => undefined);
      if (role === 'consul') {
        expect(await instance.api('GET', '/readyz')).toMatchObject({
          status: 503,
          text: expect.stringContaining('Consul at ') as string,
        });
      }
      instance.thaw(role);
      await stillServes();
      // Whether it was accepted in time or not: asked again it is done, and once.
      if (answer?.status !== 202)
        await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 3 });
      await assertConverged(running, 60_000);
      await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 2 });
      await assertConverged(running);
    },
  );
}

/** Deploys another version, strikes, and expects the deploy to end as if nothing had been. */
async function strikeDuringDeploy(
  running: TestBed,
  moment: (typeof MOMENTS)[number],
  strike: () => void | Promise<void>,
): Promise<void> {
  const { instance, web } = running;
  const tag = nextVersion();
  const image = await web(tag);
  const before = (await containersOf(running, SERVICE)).length;
  const { id } = await applyAsync(instance, webSpec(SERVICE, image, { scale: 2 }));
  if (moment !== 'at once') {
    await eventually(
      async () => expect((await containersOf(running, SERVICE)).length).toBeGreaterThan(before),
      {
        intervalMs: 10,
      },
    );
  }
  await strike();
  await instance.start(); // does nothing when it runs
  await ready(60_000);
  const operation = await ended(instance, id, 90_000);
  expect([operation.state, operation.message]).toEqual(['succeeded', expect.anything()]);
  await serving(instance, SERVICE, 2, `web ${tag}`);
  await assertConverged(running);
}
