// Releases that take over in stages, on one machine, with clients that ask all the time.
import type { OperationView } from '../../openapi/schemas';
import { httpRequest } from '../support/http';
import { startLoad, type Load } from '../support/load';
import {
  apply,
  applyAsync,
  removeMicroservice,
  scenario,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { countWith, steer, untilRecorded } from '../support/staged-release';
import { eventually } from '../support/wait';

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
}, 180_000);

afterAll(() => bed?.dispose(), 60_000);

const ingressOf = ({ instance }: TestBed): string => instance.outside(`127.0.0.1:${instance.httpPort}`);

const CHECK_OF_PORT = { tcp: { port: 80 }, intervalSeconds: 1 };

const named = (name: string, image: string, more: Record<string, unknown> = {}) => {
  const { container, ...rest } = more;
  return webSpec(name, image, {
    scale: 2,
    ...rest,
    container: {
      ports: [],
      httpPorts: { '80': `${name}.localhost` },
      check: CHECK_OF_PORT,
      stopGraceSeconds: 5,
      ...(container as object | undefined),
    },
  });
};

const loadOn = (running: TestBed, name: string, path = '/'): Load =>
  startLoad({ address: ingressOf(running), hostname: `${name}.localhost`, clients: 4, path });

const answers = (running: TestBed, name: string, text: string): Promise<void> =>
  eventually(
    async () => {
      const headers = { host: `${name}.localhost` };
      expect((await httpRequest(`http://${ingressOf(running)}/`, { headers })).text).toContain(text);
    },
    { describe: `${name} answers "${text}"` },
  );

const ended = ({ instance }: TestBed, id: string) => untilRecorded(instance, id, ({ final }) => final);

scenario(
  'blue-green switches all requests at once, and loses none',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const images = [await web('v1'), await web('v2')];
    await apply(instance, named('blue', images[0] ?? ''));
    await answers(running, 'blue', 'web v1');
    const load = loadOn(running, 'blue');
    try {
      const update = { strategy: 'blue-green', keepOldSeconds: 2 };
      const done = await apply(instance, named('blue', images[1] ?? '', { update }));
      expect(done.plan.slice(0, 3)).toEqual([
        'have v2 ready beside v1',
        'switch all requests to v2, keep v1 for 2 s',
        'stop v1',
      ]);
      await answers(running, 'blue', 'web v2');
    } finally {
      await load.stop();
    }
    const { failures, bodies } = load.report();
    expect(failures).toEqual([]);
    expect(countWith(bodies, 'web v1')).toBeGreaterThan(0);
    expect(countWith(bodies, 'web v2')).toBeGreaterThan(0);
    await removeMicroservice(instance, 'blue');
  },
);

scenario(
  'a canary that does as well as the old release takes over, and loses no request',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const images = [await web('v1'), await web('v2')];
    await apply(instance, named('bird', images[0] ?? ''));
    await answers(running, 'bird', 'web v1');
    const load = loadOn(running, 'bird');
    try {
      const steps = [
        { weight: 20, seconds: 4 },
        { weight: 60, seconds: 4 },
      ];
      const judge = { maxLatencyFactor: 0 };
      const update = { strategy: 'canary', steps, judge };
      const { id } = await applyAsync(instance, named('bird', images[1] ?? '', { update }));
      const done = await ended(running, id);
      expect(done.message).toMatch(
        /^v2 runs at scale 2: v2 answered 0% of [\d,]+ requests with errors, v1 0% of [\d,]+$/,
      );
    } finally {
      await load.stop();
    }
    const { failures, bodies } = load.report();
    expect(failures).toEqual([]);
    expect(countWith(bodies, 'web v2')).toBeGreaterThan(100);
    await removeMicroservice(instance, 'bird');
  },
);

scenario(
  'a canary that answers with errors is rolled back, after no more of them than its share',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const image = await web('v1');
    await apply(instance, named('sick', image));
    await answers(running, 'sick', 'web v1');
    const load = loadOn(running, 'sick', '/cgi-bin/health');
    try {
      const update = { strategy: 'canary', steps: [{ weight: 10, seconds: 600 }] };
      const env = ['HEALTH=failing'];
      const { id } = await applyAsync(instance, named('sick', image, { update, env }));
      const done = await ended(running, id);
      expect(done).toMatchObject({ state: 'rolled_back', error: { code: 'unhealthy' } });
      expect(done.message).toMatch(
        /^v2 was rolled back to v1: v2 answered 100% of [\d,]+ requests? with errors, v1 0% of [\d,]+$/,
      );
      const before = load.report().failures.length;
      await eventually(() => expect(load.report().answered).toBeGreaterThan(before + 200));
      expect(load.report().failures).toHaveLength(before);
    } finally {
      await load.stop();
    }
    const { answered, failures } = load.report();
    expect(failures.length).toBeGreaterThan(4);
    const share = failures.length / (answered + failures.length);
    expect(share).toBeLessThan(0.1 + 4 * Math.sqrt(0.09 / (answered + failures.length)) + 1 / 120);
    await removeMicroservice(instance, 'sick');
  },
);

scenario(
  'a canary that is much slower is rolled back, although nothing of it fails',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const image = await web('v1');
    await apply(instance, named('slow', image));
    await answers(running, 'slow', 'web v1');
    const load = loadOn(running, 'slow', '/cgi-bin/health');
    try {
      const update = { strategy: 'canary', steps: [{ weight: 20, seconds: 600 }] };
      const delaySeconds = 4;
      const env = [`HEALTH_DELAY_SECONDS=${delaySeconds}`];
      const { id } = await applyAsync(instance, named('slow', image, { update, env }));
      const done = await ended(running, id);
      expect(done).toMatchObject({ state: 'rolled_back', error: { code: 'unhealthy' } });
      expect(done.message).toMatch(
        /^v2 was rolled back to v1: of 100 requests to v2 95 took up to [\d.]+ s, of those to v1 up to [\d.]+ m?s \([\d,]+ and [\d,]+ requests\)$/,
      );
      // Nobody is led to it any more.
      const url = `http://${ingressOf(running)}/cgi-bin/health`;
      for (let asked = 0; asked < 30; asked += 1)
        await httpRequest(url, { headers: { host: 'slow.localhost' }, timeoutMs: delaySeconds * 1_000 });
    } finally {
      await load.stop();
    }
    expect(load.report().failures).toEqual([]);
    await removeMicroservice(instance, 'slow');
  },
);

scenario(
  'a release is paused, resumed, promoted and aborted by hand',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const images = [await web('v1'), await web('v2')];
    await apply(instance, named('hand', images[0] ?? ''));
    await answers(running, 'hand', 'web v1');
    const none = await steer(instance, 'hand', 'promote');
    expect([none.status, none.body]).toMatchObject([409, { code: 'conflict' }]);

    const canary = { strategy: 'canary', judge: false, steps: [{ weight: 50, seconds: 600 }] };
    const first = await applyAsync(instance, named('hand', images[1] ?? '', { update: canary }));
    await untilRecorded(instance, first.id, ({ message }) => message.includes('give v2 50%'));
    expect((await steer(instance, 'hand', 'pause')).status).toBe(202);
    await untilRecorded(instance, first.id, ({ state }) => state === 'paused');
    expect((await steer(instance, 'hand', 'resume')).status).toBe(202);
    await untilRecorded(instance, first.id, ({ state }) => state === 'running');
    const load = loadOn(running, 'hand');
    try {
      expect((await steer(instance, 'hand', 'promote')).status).toBe(202);
      expect(await ended(running, first.id)).toMatchObject({ state: 'succeeded' });
      await answers(running, 'hand', 'web v2');

      const blue = { strategy: 'blue-green', keepOldSeconds: 600 };
      const second = await applyAsync(instance, named('hand', images[0] ?? '', { update: blue }));
      await untilRecorded(instance, second.id, ({ message }) =>
        message.includes('switch all requests to v3'),
      );
      await answers(running, 'hand', 'web v1');
      expect((await steer(instance, 'hand', 'abort', { reason: 'a test' })).status).toBe(202);
      expect(await ended(running, second.id)).toMatchObject({
        state: 'rolled_back',
        message: 'v3 was rolled back to v2: aborted by an operator: a test',
      });
      await answers(running, 'hand', 'web v2');
    } finally {
      await load.stop();
    }
    expect(load.report().failures).toEqual([]);
    // It is the canary again, as its specification says.
    const redone = (await steer(instance, 'hand', 'redeploy')).body as OperationView;
    await untilRecorded(instance, redone.id, ({ message }) => message.includes('give v4 50%'));
    expect((await steer(instance, 'hand', 'promote')).status).toBe(202);
    expect(await ended(running, redone.id)).toMatchObject({ state: 'succeeded', release: 4 });
    await removeMicroservice(instance, 'hand');
  },
);

scenario(
  'kill -9 of every process in the midst of a canary: its stage goes on, and no split is left behind',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const images = [await web('v1'), await web('v2')];
    await apply(instance, named('tough', images[0] ?? ''));
    await answers(running, 'tough', 'web v1');
    const steps = [{ weight: 30, seconds: 20 }];
    const update = { strategy: 'canary', steps, judge: false };
    const { id } = await applyAsync(instance, named('tough', images[1] ?? '', { update }));
    await untilRecorded(instance, id, ({ message }) => message.includes('give v2 30%'));
    instance.kill('control-plane');
    const load = loadOn(running, 'tough');
    instance.kill('node');
    await eventually(() => {
      const { bodies } = load.report();
      expect(countWith(bodies, 'web v2')).toBeGreaterThan(20);
      expect(countWith(bodies, 'web v1')).toBeGreaterThan(countWith(bodies, 'web v2'));
    });
    await load.stop();
    expect(load.report().failures).toEqual([]);
    expect(await ended(running, id)).toMatchObject({ state: 'succeeded' });
    await eventually(async () => {
      const answer = await instance.api('GET', '/v1/microservices/tough');
      expect(answer.body).toMatchObject({ state: 'steady' });
    });
    await answers(running, 'tough', 'web v2');

    const blue = { strategy: 'blue-green', promote: 'manual' };
    const second = await applyAsync(instance, named('tough', images[0] ?? '', { update: blue }));
    await untilRecorded(instance, second.id, ({ state }) => state === 'paused');
    await instance.killAll();
    await instance.start();
    expect(await untilRecorded(instance, second.id, ({ state }) => state === 'paused')).toMatchObject({
      message: expect.stringContaining('until it is promoted') as unknown,
    });
    await answers(running, 'tough', 'web v2');
    await eventually(async () => expect((await steer(instance, 'tough', 'promote')).status).toBe(202));
    await untilRecorded(instance, second.id, ({ message }) => message.includes('switch all requests to v3'));
    await answers(running, 'tough', 'web v1');
    const last = await apply(instance, named('tough', images[1] ?? ''));
    expect(last).toMatchObject({ state: 'succeeded', release: 4 });
    await answers(running, 'tough', 'web v2');
    await removeMicroservice(instance, 'tough');
  },
);
