// Images: pulled once per node before anything is stopped; a registry that is down, slow or wrong, and a disk that
// is full, leave what serves serving.
import { bigImage, missingProgramImage, webImage, wrongArchitectureImage } from '../support/images';
import { assertConverged } from '../support/checker';
import type { OperationView } from '../../openapi/schemas';
import {
  apply,
  applyAsync,
  containersOf,
  ended,
  microservice,
  pages,
  read,
  removeAllBut,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { consistently, eventually } from '../support/wait';

const SERVICE = 'shop';
/** Enough for the node to take replicas, and soon full. */
const DISK_BYTES = 330_000_000;

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed({ engine: { dataRootTmpfsBytes: DISK_BYTES } });
  await apply(bed.instance, webSpec(SERVICE, await bed.web('v1'), { scale: 2 }));
}, 120_000);

afterEach(async () => {
  bed.registry.setFault(undefined);
  await bed.registry.start();
  await removeAllBut(bed.instance, SERVICE);
}, 60_000);

afterAll(() => bed?.dispose(), 60_000);

const oldServes = (): Promise<unknown> => pages(bed.instance, SERVICE, 2);

scenario(
  'an image is pulled once, however many replicas ask for it',
  () => bed,
  async (running) => {
    const { instance, registry } = running;
    const image = await registry.push(await webImage('v1', { repository: 'many' }));
    registry.resetRequests();
    await apply(instance, webSpec('many', image, { scale: 5 }));
    await serving(instance, 'many', 5, 'many v1');
    const layers = registry.requests.filter((each) => each.startsWith('GET /v2/many/blobs/'));
    // Looking up the digest reads the small configuration once more.
    expect(layers.length - new Set(layers).size).toBeLessThanOrEqual(1);
  },
);

scenario(
  'a registry that is down delays a deploy, and the old release serves on',
  () => bed,
  async (running) => {
    const { instance, registry } = running;
    const image = await registry.push(await webImage('down', { repository: 'shop' }));
    await registry.stop();
    const { id } = await applyAsync(instance, webSpec(SERVICE, image, { scale: 2 }));
    await consistently(oldServes, { durationMs: 3_000, intervalMs: 200 });
    const waiting = await read<OperationView>(instance, `/v1/operations/${id}`);
    expect(waiting).toMatchObject({
      state: 'running',
      message: expect.stringMatching(
        /^The image .*shop:down could not be pulled: .* Node .* tries again\.$/,
      ) as string,
    });
    await registry.start();
    expect(await ended(instance, id)).toMatchObject({ state: 'succeeded', message: 'v2 runs at scale 2' });
    await serving(instance, SERVICE, 2, 'shop down');
    await assertConverged(running);
  },
);

scenario(
  'a registry that goes down in the middle of a pull',
  () => bed,
  async (running) => {
    const { instance, registry } = running;
    const image = await registry.push(await bigImage(2_000_000, 'middle', 'shop'));
    registry.setFault({ kind: 'throttle', bytesPerSecond: 500_000 });
    registry.resetRequests();
    const { id } = await applyAsync(instance, webSpec(SERVICE, image, { scale: 2 }));
    await eventually(() => expect(registry.requestCount(/blobs/)).toBeGreaterThan(0));
    await registry.stop();
    registry.setFault(undefined);
    await consistently(oldServes, { durationMs: 1_500, intervalMs: 200 });
    await registry.start();
    expect((await ended(instance, id)).state).toBe('succeeded');
    await serving(instance, SERVICE, 2, 'shop middle');
    await assertConverged(running);
  },
);

for (const role of ['node', 'control-plane'] as const) {
  scenario(
    `kill -9 of ${role} in the middle of a pull`,
    () => bed,
    async (running) => {
      const { instance, registry } = running;
      const image = await registry.push(await webImage(`held-${role}`, { repository: 'shop' }));
      registry.setFault({ kind: 'hold' });
      registry.resetRequests();
      const { id } = await applyAsync(instance, webSpec(SERVICE, image, { scale: 2 }));
      await eventually(() => expect(registry.requestCount(/blobs/)).toBeGreaterThan(0));
      instance.kill(role);
      registry.setFault(undefined);
      expect((await ended(instance, id)).state).toBe('succeeded');
      await serving(instance, SERVICE, 2, `shop held-${role}`);
      await assertConverged(running);
    },
  );
}

scenario(
  'an image that does not exist is said so, and the old release serves on',
  () => bed,
  async (running) => {
    const { instance, registry } = running;
    const before = await microservice(instance, SERVICE);
    const spec = webSpec(SERVICE, `${registry.host}/shop:no-such-tag`, { scale: 2 });
    const answer = await instance.api('POST', '/v1/microservices?wait=60s', {
      body: spec,
      timeoutMs: 70_000,
    });
    expect(answer.body).toMatchObject({ code: 'image_not_found', status: answer.status });
    expect(answer.text).toContain('no-such-tag');
    await oldServes();
    await assertConverged(running);
    const after = await microservice(instance, SERVICE);
    expect(after.specification.containers).toEqual(before.specification.containers);
  },
);

describe('a release that never works', () => {
  const failing = async (
    running: TestBed,
    spec: object,
  ): Promise<{ readonly code: string; readonly detail: string; readonly operation: OperationView }> => {
    const { instance } = running;
    const before = (await containersOf(running, SERVICE)).map(({ Id }) => Id).sort();
    const answer = await instance.api('POST', '/v1/microservices?wait=60s', {
      body: spec,
      timeoutMs: 70_000,
    });
    expect(answer.status).toBeGreaterThanOrEqual(400);
    await oldServes();
    await assertConverged(running);
    expect((await containersOf(running, SERVICE)).map(({ Id }) => Id).sort()).toEqual(before);
    const body = answer.body as { code: string; detail: string; operation: OperationView };
    expect(body.operation.state).toBe('rolled_back');
    return body;
  };

  scenario(
    'because it crashes at its start: rolled back, with its last words',
    () => bed,
    async (running) => {
      const image = await running.web('v2');
      const env = ['CRASH_AT_START=cannot reach the database'];
      const { operation } = await failing(running, webSpec(SERVICE, image, { scale: 2, env }));
      expect(operation.error?.logTail.join('\n')).toContain('cannot reach the database');
    },
  );

  scenario(
    'because it never listens: rolled back after its grace',
    () => bed,
    async (running) => {
      const image = await running.web('v2');
      const { code } = await failing(
        running,
        webSpec(SERVICE, image, {
          scale: 2,
          env: ['NEVER_LISTEN=1'],
          container: {
            startupGraceSeconds: 2,
            check: { tcp: { port: 80 }, intervalSeconds: 1, failures: 1 },
          },
        }),
      );
      expect(code).toBe('unhealthy');
    },
  );

  scenario(
    'because its check answers 500: rolled back, and the answer is quoted',
    () => bed,
    async (running) => {
      const image = await running.web('v2');
      const { detail } = await failing(
        running,
        webSpec(SERVICE, image, {
          scale: 2,
          env: ['HEALTH=failing'],
          container: {
            startupGraceSeconds: 2,
            check: { http: { port: 80, path: '/cgi-bin/health' }, intervalSeconds: 1, failures: 1 },
          },
        }),
      );
      expect(detail).toContain('500');
    },
  );

  scenario(
    'because its program is missing or for another architecture',
    () => bed,
    async (running) => {
      const { registry } = running;
      const missing = await registry.push(await missingProgramImage());
      expect((await failing(running, webSpec(SERVICE, missing, { scale: 2 }))).code).toBe('start_failed');
      const wrong = await registry.push(await wrongArchitectureImage());
      const { operation } = await failing(running, webSpec(SERVICE, wrong, { scale: 2 }));
      expect(operation.error?.logTail.join('\n')).toMatch(/exec format error/);
    },
  );

  scenario(
    'and is the first one: it is removed, and nothing is left of it',
    () => bed,
    async (running) => {
      const { instance } = running;
      const env = ['CRASH_AT_START=never worked'];
      const spec = webSpec('newborn', await running.web('v1'), { env });
      const answer = await instance.api('POST', '/v1/microservices?wait=60s', {
        body: spec,
        timeoutMs: 70_000,
      });
      const { operation } = answer.body as { operation: OperationView };
      expect(operation.state).toBe('failed');
      expect(operation.error?.logTail.join('\n')).toContain('never worked');
      expect((await microservice(instance, 'newborn')).state).toBe('failed');
    },
  );

  scenario(
    'but is mended by a new one while it is being tried',
    () => bed,
    async (running) => {
      const { instance } = running;
      const image = await running.web('v2');
      const { id } = await applyAsync(
        instance,
        webSpec(SERVICE, image, { scale: 2, env: ['NEVER_LISTEN=1'] }),
      );
      await eventually(async () => expect((await containersOf(running, SERVICE)).length).toBeGreaterThan(2));
      await apply(instance, webSpec(SERVICE, image, { scale: 2 }));
      expect((await ended(instance, id)).state).toBe('superseded');
      await serving(instance, SERVICE, 2, 'web v2');
      await assertConverged(running);
    },
  );
});

scenario(
  'a disk that is full during a pull is said so, and the old release serves on',
  () => bed,
  async (running) => {
    const { instance, registry } = running;
    const image = await registry.push(await bigImage(DISK_BYTES, 'v1', 'too-big', 'zeros'));
    const { id } = await applyAsync(instance, webSpec(SERVICE, image, { scale: 2 }));
    await consistently(oldServes, { durationMs: 3_000, intervalMs: 200 });
    // It may hope for room for a while; giving up the wish is enough to be well again.
    const operation = await read<OperationView>(instance, `/v1/operations/${id}`);
    if (operation.final) expect(operation.error?.message).toMatch(/space|disk/i);
    const giveUp = webSpec(SERVICE, await running.web('v1'), { scale: 2 });
    // What the node says of its disk lags behind by a look.
    await eventually(() => apply(instance, giveUp), { timeoutMs: 40_000, intervalMs: 500 });
    await serving(instance, SERVICE, 2, 'web v1');
    await assertConverged(running);
  },
);
