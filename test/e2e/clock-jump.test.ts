// The clock of ContainerOS's own processes jumps by hours, there and back: nothing that runs is disturbed, and what
// is asked for is done. The engines' clocks stay: they are static programs, and to move the computer's clock would
// move it for everything else on it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assertConverged } from '../support/checker';
import {
  apply,
  change,
  containersOf,
  events,
  pages,
  replicas,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { findUnpacked } from '../support/programs';
import { consistently, eventually } from '../support/wait';

const HOUR_MS = 3_600_000;
/** libfaketime reads its file again after this many seconds. */
const CACHE_SECONDS = '1';

const folder = mkdtempSync(join(tmpdir(), 'containeros-clock-'));
const clock = join(folder, 'offset');
const jumpTo = (offset: string): void => writeFileSync(clock, `${offset}\n`);

let bed: TestBed;

beforeAll(async () => {
  jumpTo('+0');
  bed = await startTestBed({
    instance: {
      env: {
        LD_PRELOAD: findUnpacked('libfaketimeMT.so.1'),
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_CACHE_DURATION: CACHE_SECONDS,
        // The kernel's monotonic clock does not jump either.
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
    },
  });
  await apply(bed.instance, webSpec('steady', await bed.web('v1'), { scale: 2 }));
}, 120_000);

afterAll(async () => {
  await bed?.dispose();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

/** The clock by which the node worker dates what it reports. */
const nodeClockMs = async (name: string): Promise<number> =>
  Math.max(...(await replicas(bed.instance, name)).map(({ updatedAt }) => Date.parse(updatedAt)));

for (const [offset, offsetMs] of [
  ['+3h', 3 * HOUR_MS],
  ['-3h', -3 * HOUR_MS],
  ['+0', 0],
] as const) {
  scenario(
    `the clock jumps to ${offset}: what runs is left alone, and changes and healing go on`,
    () => bed,
    async (running) => {
      const { instance, engine, web } = running;
      const before = (await containersOf(running, 'steady')).map(({ Id }) => Id).sort();
      const name = `at${offsetMs / HOUR_MS + 10}`;
      jumpTo(offset);

      await apply(instance, webSpec(name, await web('v1'), { scale: 1 }));
      // The jump has really taken place.
      await eventually(async () => {
        await change(instance, 'POST', `/v1/microservices/${name}/restart`);
        const offMs = (await nodeClockMs(name)) - Date.now();
        expect(Math.abs(offMs - offsetMs)).toBeLessThan(60_000);
      });
      await apply(instance, webSpec(name, await web('v2'), { scale: 2 }));
      await serving(instance, name, 2, 'web v2');

      const [victim] = await containersOf(running, name);
      await engine.docker.getContainer(victim?.Id ?? '').kill();
      await serving(instance, name, 2, 'web v2');

      await consistently(() => pages(instance, 'steady', 2), { durationMs: 1_000 });
      expect((await containersOf(running, 'steady')).map(({ Id }) => Id).sort()).toEqual(before);
      const latest = await events(instance, 'limit=500');
      expect(
        latest.filter(({ type, replica }) => replica?.startsWith('steady') && type !== 'replica.started'),
      ).toEqual([]);
      await change(instance, 'DELETE', `/v1/microservices/${name}`);
      await assertConverged(running);
    },
  );
}
