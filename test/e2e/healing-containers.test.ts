// Containers that die, hang, fail their checks or crash again and again: each is healed, the others are left alone.
import { assertConverged } from '../support/checker';
import {
  apply,
  containersOf,
  endpoints,
  events,
  microservice,
  page,
  pages,
  removeAllBut,
  removeMicroservice,
  replicas,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { consistently, eventually } from '../support/wait';

const SERVICE = 'steady';
const SCALE = 2;

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
  await apply(bed.instance, {
    ...webSpec(SERVICE, await bed.web('v1'), {
      scale: SCALE,
      container: {
        check: { http: { port: 80, path: '/cgi-bin/health' }, intervalSeconds: 1, failures: 2 },
        startupGraceSeconds: 5,
      },
    }),
  });
}, 120_000);

afterAll(() => bed?.dispose(), 60_000);

afterEach(() => removeAllBut(bed.instance, SERVICE), 60_000);

const serves = (): Promise<void> => serving(bed.instance, SERVICE, SCALE, 'web v1');

/** One of the running containers of the service, by Docker's handle. */
async function oneContainer() {
  const [found] = await containersOf(bed, SERVICE);
  if (found === undefined) throw new Error('no container runs');
  return bed.engine.docker.getContainer(found.Id);
}

scenario(
  'a container that is killed serves again within seconds',
  () => bed,
  async (running) => {
    const victim = await oneContainer();
    const { State } = await victim.inspect();
    const pid = running.engine.hostPid(State.Pid);
    if (pid === undefined) throw new Error('its process is not found');
    process.kill(pid, 'SIGKILL');
    const killedAt = performance.now();
    await eventually(async () => {
      const after = await victim.inspect().catch(() => undefined);
      if (after?.State.Running === true && after.State.Pid === State.Pid)
        throw new Error('it has not died yet');
    });
    await serves();
    const tookMs = performance.now() - killedAt;
    await assertConverged(running);
    expect(tookMs).toBeLessThan(5_000);
    expect(
      (await replicas(running.instance, SERVICE)).reduce((sum, each) => sum + each.restartCount, 0),
    ).toBe(1);
  },
);

scenario(
  'a container that is removed is replaced',
  () => bed,
  async (running) => {
    const victim = await oneContainer();
    await victim.remove({ force: true });
    await eventually(async () => {
      const ids = (await containersOf(running, SERVICE)).map(({ Id }) => Id);
      expect(ids).toHaveLength(SCALE);
      expect(ids).not.toContain(victim.id);
    });
    await serves();
    await assertConverged(running);
  },
);

scenario(
  'a container that somebody stopped runs again',
  () => bed,
  async (running) => {
    await (await oneContainer()).stop({ t: 1 });
    await assertConverged(running);
    await serves();
  },
);

scenario(
  'a container that is paused gets no traffic, and is healed',
  () => bed,
  async (running) => {
    const victim = await oneContainer();
    await victim.pause();
    // Whoever asks Consul is soon led to the other one only.
    await eventually(async () => {
      for (const answer of await Promise.all(
        (await endpoints(running.instance, SERVICE)).map((endpoint) => page(running.instance, endpoint)),
      )) {
        expect(answer).toMatch(/^200/);
      }
    });
    await assertConverged(running, 60_000);
    await serves();
  },
);

scenario(
  'a container whose check fails gets no traffic, and is restarted or replaced',
  () => bed,
  async (running) => {
    const { instance } = running;
    const victim = await oneContainer();
    const failing = await victim.exec({ Cmd: ['touch', '/tmp/failing'] });
    await failing.start({});
    await eventually(async () => expect(await endpoints(instance, SERVICE)).toHaveLength(SCALE - 1), {
      describe: 'traffic leaves it',
    });
    await assertConverged(running, 60_000);
    await serves();
  },
);

scenario(
  'a crash loop is reported and backs off, and the others are not disturbed',
  () => bed,
  async (running) => {
    const { instance } = running;
    const before = (await containersOf(running, SERVICE)).map(({ Id }) => Id).sort();
    // It becomes healthy at first, so that it is not a release that never worked.
    const spec = webSpec('crasher', await running.web('v1'), {
      env: ['CRASH_AFTER_SECONDS=2'],
      update: { minHealthySeconds: 0 },
    });
    await apply(instance, spec);
    const replica = await eventually(
      async () => {
        const [found] = await replicas(instance, 'crasher');
        expect(found?.state).toBe('crash_looping');
        return found;
      },
      { timeoutMs: 60_000 },
    );
    expect(replica?.reason).toMatch(/exit|ended|crash/i);
    expect(replica?.restartCount).toBeGreaterThanOrEqual(2);
    expect((await microservice(instance, 'crasher')).replicas.restarting).toBe(1);
    expect((await events(instance, 'microservice=crasher&since=5m')).map(({ type }) => type)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^replica\./)]),
    );
    // At most a few attempts while one looks.
    const count = async (): Promise<number> => (await replicas(instance, 'crasher'))[0]?.restartCount ?? 0;
    const countBefore = await count();
    await consistently(() => serves(), { durationMs: 5_000, intervalMs: 500 });
    expect((await count()) - countBefore).toBeLessThanOrEqual(3);
    expect((await containersOf(running, SERVICE)).map(({ Id }) => Id).sort()).toEqual(before);
    await removeMicroservice(instance, 'crasher');
    await assertConverged(running);
  },
);

scenario(
  'containers of one replica share a network; one that dies is mended alone',
  () => bed,
  async (running) => {
    const { instance, engine } = running;
    const image = await running.web('v1');
    await apply(instance, {
      name: 'pair',
      containers: {
        front: { image, ports: [80] },
        back: { image, env: ['PORT=8080'], ports: [8080] },
      },
    });
    const containers = await containersOf(running, 'pair');
    expect(containers).toHaveLength(2);
    const byName = new Map(containers.map((each) => [each.Labels['containeros.container'], each.Id]));
    // The front reaches the back on its own loopback.
    const inside = await engine.exec([
      ...['docker', 'exec', byName.get('front') ?? '', 'wget', '-qO-', 'http://127.0.0.1:8080/version'],
    ]);
    expect(inside.stdout).toContain('web v1');

    const [replica] = await replicas(instance, 'pair');
    const ports = replica?.ports.map(({ address }) => address);
    const front = replica?.ports.find(({ port }) => port === 80)?.address ?? '';
    const back = engine.docker.getContainer(byName.get('back') ?? '');
    await back.kill();
    // The other one goes on answering on its port all the time.
    expect(await page(instance, front)).toMatch(/^200/);
    await consistently(async () => expect(await page(instance, front)).toMatch(/^200/), {
      durationMs: 1_500,
    });
    await assertConverged(running);
    expect((await replicas(instance, 'pair'))[0]?.ports.map(({ address }) => address)).toEqual(ports);
    const after = (await containersOf(running, 'pair')).find(
      (each) => each.Labels['containeros.container'] === 'front',
    );
    expect(after?.Id).toBe(byName.get('front'));
    await removeMicroservice(instance, 'pair');
    await assertConverged(running);
  },
);

scenario(
  'the engine stopped and started, killed and started: everything serves again',
  () => bed,
  async (running) => {
    const { engine } = running;
    await engine.stop();
    await engine.start();
    await assertConverged(running, 60_000);
    await serves();
    await engine.kill();
    await engine.start();
    await assertConverged(running, 60_000);
    await serves();
  },
  180_000,
);

scenario(
  'an engine that hangs for a while delays, and breaks nothing',
  () => bed,
  async (running) => {
    const { engine, instance } = running;
    await engine.freeze();
    try {
      await consistently(async () => expect(await pages(instance, SERVICE, SCALE)).toHaveLength(SCALE), {
        durationMs: 3_000,
      });
    } finally {
      engine.thaw();
    }
    await assertConverged(running, 60_000);
  },
);
