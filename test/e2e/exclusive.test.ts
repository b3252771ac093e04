// A microservice that must never run twice, as its users see it: it is renewed stop-first, and a node worker that is
// frozen does not let it run on without its lease.
import { LEASE_LASTS_MS } from '../../contracts/leases';
import {
  apply,
  change,
  containersOf,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { recordRuns } from '../support/runs';
import { eventually } from '../support/wait';

const SERVICE = 'scheduler';

let bed: TestBed;
beforeAll(async () => {
  bed = await startTestBed();
  await bed.web('v2');
}, 120_000);
afterAll(() => bed?.dispose(), 60_000);

scenario(
  'what is exclusive never runs twice: while it is made so, renewed, and while its worker is frozen',
  () => bed,
  async ({ instance, engine, web }) => {
    await apply(instance, webSpec(SERVICE, await web('v1'), { scale: 2 }));
    await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { exclusive: true });
    const runs = await recordRuns(SERVICE, [engine]);
    try {
      await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, {
        containers: { main: { image: await web('v2') } },
      });
      expect(await containersOf(bed, SERVICE)).toHaveLength(1);
      const frozenAt = performance.now();
      await instance.freeze('node');
      try {
        await eventually(
          async () => {
            const all = await engine.docker.listContainers();
            expect(all.filter(({ Names }) => Names[0]?.startsWith(`/${SERVICE}`))).toEqual([]);
          },
          { timeoutMs: 30_000, intervalMs: 50, describe: 'the guard has killed it' },
        );
        expect(performance.now() - frozenAt).toBeLessThan(LEASE_LASTS_MS);
      } finally {
        instance.thaw('node');
      }
      await serving(instance, SERVICE, 1, 'web v2', 60_000);
      expect(runs.mostAtOnce()).toBe(1);
    } finally {
      runs.stop();
    }
  },
  240_000,
);
