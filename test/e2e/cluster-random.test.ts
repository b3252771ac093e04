// Faults of all kinds, at random, on a cluster that is being changed meanwhile: whatever was done, all is as desired in
// the end, and at each of the checks on the way.
// The seed and the number of faults (`npm run faults -- --seed 7 --faults 100`) choose the schedule, which is printed; the
// same two give the same one.
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { restoreCluster } from '../support/cluster/faults';
import {
  createSchedule,
  describeSchedule,
  inflict,
  readSchedule,
  strike,
  takeBack,
  type Step,
} from '../support/cluster/random-faults';
import { clusterScenario } from '../support/cluster/scenario';
import { apply, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const { seed: SEED, faults: FAULTS } = readSchedule(process.env);
const NODES = 4;
/** For a machine that is busy with other tests: each fault with what follows from it takes a few seconds. */
const TIMEOUT_MS = 120_000 + FAULTS * 30_000;
const CHECK_TIMEOUT_MS = 120_000;
const CHANGE_TIMEOUT_MS = 90_000;

const schedule = createSchedule({
  seed: SEED,
  faults: FAULTS,
  head: 'node-1',
  members: ['node-2', 'node-3', 'node-4'],
  changeable: ['web', 'pair', 'lone'],
});

let cluster: Cluster;
let images: { readonly v1: string; readonly v2: string };

beforeAll(async () => {
  cluster = await startCluster({ nodes: NODES });
  images = { v1: await cluster.web('v1'), v2: await cluster.web('v2') };
}, 180_000);

afterAll(() => cluster?.dispose(), 60_000);

/** Of different kinds: stateless, of two containers, away from its neighbour, and on every node. */
function specOf(name: string, version: string, scale: number): Record<string, unknown> {
  const image = version === 'v2' ? images.v2 : images.v1;
  const spec = webSpec(name, image, { scale });
  switch (name) {
    case 'pair':
      return {
        ...spec,
        containers: {
          ...(spec['containers'] as object),
          beside: { image, command: ['/bin/sh', '-c', 'while :; do sleep 1; done'] },
        },
      };
    case 'lone':
      return { ...spec, apart: ['web'] };
    case 'every':
      return { ...webSpec(name, image), daemon: true };
    default:
      return spec;
  }
}

const present = new Map<string, string>();

/** Asks until it is accepted: the API may be away, or be starting. Does not wait until it is done. */
async function ask(method: string, path: string, body: unknown, accepted: readonly number[]): Promise<void> {
  await eventually(
    async () => {
      const answer = await cluster.instance.api(method, path, {
        ...(body === undefined ? {} : { body }),
        timeoutMs: 30_000,
      });
      if (!accepted.includes(answer.status))
        throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    },
    { timeoutMs: CHANGE_TIMEOUT_MS, intervalMs: 200, describe: `${method} ${path} is accepted` },
  );
}

async function deploy(name: string, version: string, scale: number): Promise<void> {
  await ask('POST', '/v1/microservices', specOf(name, version, scale), [202]);
  present.set(name, version);
}

async function act(step: Step): Promise<void> {
  switch (step.kind) {
    case 'fault':
      return inflict(cluster, step);
    case 'heal':
      return takeBack(cluster, step);
    case 'moment':
      return strike(cluster, step);
    case 'check':
      // What was removed is made again, so that there is something to lose.
      for (const name of ['web', 'pair', 'lone']) if (!present.has(name)) await deploy(name, 'v1', 2);
      return assertClusterConverged(cluster, { timeoutMs: CHECK_TIMEOUT_MS });
    case 'deploy':
      return deploy(step.name, step.version, step.scale);
    case 'scale':
      return present.has(step.name)
        ? ask('PATCH', `/v1/microservices/${step.name}`, { scale: step.scale }, [202])
        : deploy(step.name, 'v1', step.scale);
    case 'restart-all':
      if (present.has(step.name))
        await ask('POST', `/v1/microservices/${step.name}/restart`, undefined, [202]);
      return;
    case 'remove':
      // Asked again after an answer that was lost, it may be gone.
      if (present.delete(step.name))
        await ask('DELETE', `/v1/microservices/${step.name}`, undefined, [202, 404]);
      return;
  }
}

clusterScenario(
  `${FAULTS} faults out of the seed ${SEED}`,
  () => cluster,
  async ({ instance }) => {
    process.stdout.write(`seed ${SEED}, ${FAULTS} faults:\n${describeSchedule(schedule)}\n`);
    for (const name of ['web', 'pair', 'lone', 'every']) {
      await apply(instance, specOf(name, 'v1', 2));
      if (name !== 'every') present.set(name, 'v1');
    }
    await assertClusterConverged(cluster);
    const startedAt = performance.now();
    for (const [i, step] of schedule.entries()) {
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      process.stdout.write(`${seconds.padStart(6)} s ${i + 1}/${schedule.length} ${JSON.stringify(step)}\n`);
      try {
        await act(step);
      } catch (error) {
        (error as Error).message =
          `in step ${i + 1} of seed ${SEED}, ${JSON.stringify(step)}: ${(error as Error).message}`;
        throw error;
      }
    }
    await restoreCluster(cluster);
    await assertClusterConverged(cluster, { timeoutMs: CHECK_TIMEOUT_MS });
  },
  TIMEOUT_MS,
);
