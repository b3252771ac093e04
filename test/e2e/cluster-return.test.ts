// What a node of a real cluster gets when it is back after a power cut: its share of what has grown meanwhile, at once
// and not at some later look; and when it was lost again before long, nothing that has to be there, with the reason.
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { answering, replicasByNode, restoreCluster, untilHealth } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import type { PlacementView } from '../../openapi/schemas';
import { TIMEOUT } from '../../contracts/timeouts';
import { apply, change, events, read, removeAllBut, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const SCALE = 6;
const RETURNING = 'node-3';
/** Far less than what the periodic look would take for one replica. */
const SHARE_TIMEOUT_MS = 60_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
}, 180_000);

afterAll(() => cluster?.dispose(), 60_000);

const countsOf = async (service: string): Promise<readonly number[]> => {
  const counts = await replicasByNode(cluster, service);
  return cluster.nodes.map(({ name }) => counts.get(name) ?? 0);
};

/** Its power fails, and everybody knows. */
async function losePower(): Promise<void> {
  await cluster.node(RETURNING).powerOff();
  await untilHealth(cluster, RETURNING, 'lost');
}

const scaleUp = (service: string): Promise<unknown> =>
  change(cluster.instance, 'PATCH', `/v1/microservices/${service}`, { scale: SCALE });

// In this order: what a node gets depends on how often it was lost before.
clusterScenario(
  'a node that was away while a microservice grew gets its share when it is back, one replica after the other',
  () => cluster,
  async ({ instance, web }) => {
    expect(SHARE_TIMEOUT_MS).toBeLessThan(TIMEOUT.reconcileEveryMs);
    await apply(instance, webSpec('grown', await web('v1'), { scale: 1 }));
    await losePower();
    await scaleUp('grown');
    // What it ran itself, if anything, is still known of, as lost.
    expect((await countsOf('grown')).slice(0, 2)).toEqual([3, 3]);
    await answering(cluster, 'grown', async () => {
      await cluster.node(RETURNING).powerOn();
      await eventually(async () => expect(await countsOf('grown')).toEqual([2, 2, 2]), {
        timeoutMs: SHARE_TIMEOUT_MS,
        describe: 'the replicas are spread evenly again',
      });
      await assertClusterConverged(cluster);
    });
    // After one power cut it is a node like others.
    await apply(instance, webSpec('later', await web('v1'), { scale: 1 }));
    await scaleUp('later');
    expect(await countsOf('later')).toEqual([2, 2, 2]);
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  'a node that was lost twice gets nothing that fits elsewhere, and the placement says why and until when',
  () => cluster,
  async ({ instance, web }) => {
    await restoreCluster(cluster);
    await removeAllBut(instance);
    await losePower();
    await cluster.node(RETURNING).powerOn();
    const unstable = await eventually(
      async () => {
        const [told] = (await events(instance, 'limit=500')).filter(
          ({ type, node }) => type === 'node.unstable' && node === RETURNING,
        );
        if (told === undefined) throw new Error('nothing is told of it');
        return told;
      },
      { describe: `it is told that ${RETURNING} comes and goes` },
    );
    await apply(instance, webSpec('wary', await web('v1'), { scale: 1 }));
    await scaleUp('wary');
    expect(await countsOf('wary')).toEqual([3, 3, 0]);
    const { nodes } = await read<PlacementView>(instance, '/v1/microservices/wary/placement');
    const verdict = nodes.find(({ node }) => node === RETURNING);
    const consequence = /until \S+Z nodes that stay come first/.exec(unstable.message)?.[0];
    expect(consequence).toBeDefined();
    expect(verdict).toEqual({
      node: RETURNING,
      fits: true,
      reason: `has room for one more replica, but comes and goes: ${consequence}`,
    });
    await assertClusterConverged(cluster);
  },
);
