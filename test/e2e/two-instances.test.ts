// Two installations on one machine and one engine: other ports, other data directories, and nothing in common.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { startInstance, type Instance } from '../support/instance';
import { assertConverged } from '../support/checker';
import {
  apply,
  containersOf,
  removeMicroservice,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { eventually } from '../support/wait';

let bed: TestBed;
let other: Instance;
let otherBed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
  other = await startInstance({ engine: bed.engine, portOffset: 2_000, password: 'not-the-usual-one' });
  otherBed = { ...bed, instance: other };
}, 180_000);

afterAll(async () => {
  await other?.dispose();
  await bed?.dispose();
}, 60_000);

scenario(
  'microservices of one name live side by side',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    await Promise.all([
      apply(instance, webSpec('twin', await web('v1'), { scale: 2 })),
      apply(other, webSpec('twin', await web('v2'), { scale: 3 })),
    ]);
    await Promise.all([serving(instance, 'twin', 2, 'web v1'), serving(other, 'twin', 3, 'web v2')]);
    await Promise.all([assertConverged(running), assertConverged(otherBed)]);
  },
);

scenario(
  'the end of one does not touch the other',
  () => bed,
  async (running) => {
    const { instance } = running;
    const before = (await containersOf(otherBed, 'twin')).map(({ Id }) => Id).sort();
    await instance.killAll();
    await serving(other, 'twin', 3, 'web v2');
    await instance.start();
    await assertConverged(running);
    await removeMicroservice(instance, 'twin');
    expect(await containersOf(running, 'twin')).toEqual([]);
    await assertConverged(otherBed);
    expect((await containersOf(otherBed, 'twin')).map(({ Id }) => Id).sort()).toEqual(before);
  },
);

scenario(
  'each has a password of its own',
  () => bed,
  async ({ instance }) => {
    expect((await other.api('GET', '/v1/microservices', { password: 'dev' })).status).toBe(401);
    expect((await instance.api('GET', '/v1/microservices', { password: 'not-the-usual-one' })).status).toBe(
      401,
    );
    const mode = statSync(join(other.dataDir, 'internal-token')).mode & 0o777;
    expect(mode.toString(8)).toBe('600');
  },
);

scenario(
  'a second start with one data directory, or with ports that are taken, is refused',
  () => bed,
  async (running) => {
    const { engine, instance } = running;
    const up = (dataDir: string): Promise<string> =>
      engine
        .exec(
          [
            process.execPath,
            join(__dirname, '..', '..', 'dist', 'workers', 'containeros.js'),
            'up',
            '--dev',
            '--data-dir',
            dataDir,
          ],
          { mayFail: true },
        )
        .then(({ code, stderr }) => `${code} ${stderr}`);
    expect(await up(instance.dataDir)).toMatch(/^6 .*runs already/s);
    expect(await up(join(engine.folder, 'third'))).toMatch(/^6 .*8000.*--api-port.*8500.*--consul-port/s);
    await eventually(() => assertConverged(running));
  },
);
