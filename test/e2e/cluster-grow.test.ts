// A machine joins a cluster that is at work: it gets a replica of each daemon, and its share of the others, one replica
// after the other and none of what is to stay where it is. And a node that is cordoned keeps what it has, and gets
// nothing until it may again.
import type { PlacementView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { answering, containerRuns, replicasByNode } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { TIMEOUT } from '../../contracts/timeouts';
import { apply, change, microservice, read, replicas, webSpec } from '../support/product';
import { recordRuns } from '../support/runs';
import { eventually } from '../support/wait';

const SCALE = 6;
/** Far less than what the periodic look would take for one replica. */
const SHARE_TIMEOUT_MS = 60_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 2 });
}, 180_000);

afterAll(() => cluster?.dispose(), 60_000);

const countsOf = async (service: string): Promise<readonly number[]> => {
  const counts = await replicasByNode(cluster, service);
  return cluster.nodes.map(({ name }) => counts.get(name) ?? 0);
};

const untilSpread = (service: string, wanted: readonly number[]): Promise<void> =>
  eventually(async () => expect(await countsOf(service)).toEqual(wanted), {
    timeoutMs: SHARE_TIMEOUT_MS,
    describe: `${service} is spread as ${wanted.join(', ')}`,
  });

const runsOf = (service: string) => containerRuns(cluster, cluster.nodes, service);

/** The fewest replicas that served at any time while something was done, as the API showed them. */
async function fewestServing(service: string, body: () => Promise<void>): Promise<number> {
  const look = async (): Promise<number> =>
    (await replicas(cluster.instance, service)).filter(({ healthy }) => healthy).length;
  let fewest = await look();
  let isOver = false;
  const watching = (async () => {
    while (!isOver) fewest = Math.min(fewest, await look());
  })();
  try {
    await body();
  } finally {
    isOver = true;
    await watching;
  }
  return fewest;
}

// In this order: the machine that the first one adds is the one that the second one cordons.
clusterScenario(
  'a machine that joins gets daemons and its share, one replica after the other, and nothing of what has rebalance off',
  () => cluster,
  async ({ instance, nodes, web }) => {
    expect(SHARE_TIMEOUT_MS).toBeLessThan(TIMEOUT.reconcileEveryMs);
    const image = await web('v1');
    await apply(instance, { ...webSpec('everywhere', image), daemon: true });
    await apply(instance, webSpec('spread', image, { scale: SCALE }));
    await apply(instance, webSpec('fixed', image, { scale: SCALE, rebalance: false }));
    for (const service of ['spread', 'fixed']) expect(await countsOf(service)).toEqual([3, 3]);
    expect(await countsOf('everywhere')).toEqual([1, 1]);
    const [daemons, fixed] = await Promise.all([runsOf('everywhere'), runsOf('fixed')]);
    const before = await recordRuns(
      'spread',
      nodes.map(({ engine }) => engine),
    );
    const fewest = await fewestServing('spread', () =>
      answering(cluster, 'spread', async () => {
        await cluster.addNode();
        await untilSpread('spread', [2, 2, 2]);
        await untilSpread('everywhere', [1, 1, 1]);
        await assertClusterConverged(cluster);
      }),
    );
    expect(fewest).toBe(SCALE);
    const added = cluster.node('node-3');

    // As the engines tell it: two have moved, the second one when the first one was done, and nothing else was touched.
    const there = await recordRuns('spread', [added.engine]);
    const starts = there.runs().map(({ startedAtMs }) => startedAtMs);
    const ends = before
      .runs()
      .flatMap(({ endedAtMs }) => endedAtMs ?? [])
      .sort((left, right) => left - right);
    before.stop();
    there.stop();
    expect(before.runs()).toHaveLength(SCALE);
    expect([starts.length, ends.length]).toEqual([2, 2]);
    const inTurn = [starts[0], ends[0], starts[1], ends[1]];
    expect(inTurn).toEqual([...starts, ...ends].sort((left, right) => left - right));

    expect(await countsOf('fixed')).toEqual([3, 3, 0]);
    expect(await runsOf('fixed')).toEqual(fixed);
    expect((await microservice(instance, 'everywhere')).scale).toBe(3);
    expect((await runsOf('everywhere')).filter(({ node }) => node !== added.name)).toEqual(daemons);
  },
);

clusterScenario(
  'a node that is cordoned keeps what it has and gets nothing new; when it may again, it gets its share',
  () => cluster,
  async ({ instance, web }) => {
    const cordoned = cluster.node('node-3');
    const kept = () => containerRuns(cluster, [cordoned], 'spread');
    const before = await kept();
    expect(before).toHaveLength(2);
    expect((await instance.api('POST', `/v1/nodes/${cordoned.name}/cordon`)).status).toBe(200);
    await change(instance, 'PATCH', '/v1/microservices/spread', { scale: 9 });
    await apply(instance, webSpec('later', await web('v1'), { scale: 4 }));
    await apply(instance, { ...webSpec('everywhere-else', await web('v1')), daemon: true });
    expect([...(await countsOf('spread'))].sort()).toEqual([2, 3, 4]);
    expect(await countsOf('later')).toEqual([2, 2, 0]);
    expect(await countsOf('everywhere')).toEqual([1, 1, 1]);
    expect(await countsOf('everywhere-else')).toEqual([1, 1, 0]);
    expect(await kept()).toEqual(before);
    const { nodes } = await read<PlacementView>(instance, '/v1/microservices/later/placement');
    expect(nodes.find(({ node }) => node === cordoned.name)).toMatchObject({
      fits: false,
      reason: expect.stringContaining('cordoned') as string,
    });
    await assertClusterConverged(cluster);

    expect((await instance.api('POST', `/v1/nodes/${cordoned.name}/uncordon`)).status).toBe(200);
    await untilSpread('spread', [3, 3, 3]);
    await untilSpread('everywhere-else', [1, 1, 1]);
    await eventually(async () => expect([...(await countsOf('later'))].sort()).toEqual([1, 1, 2]), {
      timeoutMs: SHARE_TIMEOUT_MS,
      describe: 'later is spread over all nodes',
    });
    await assertClusterConverged(cluster);
    expect((await kept()).filter(({ id }) => before.some((each) => each.id === id))).toEqual(before);
  },
);
