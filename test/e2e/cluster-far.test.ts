// A real cluster whose nodes come to be far apart, and near again: the gossip takes the timing that the distances need,
// by itself and on every node, and neither the distance nor the restarts of the agents cost a node or a replica.
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import { answering, containerRuns } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import type { GossipTiming } from '../../domain/gossip-profile';
import { GOSSIP_PROFILE } from '../../workers/up/consul-settings';
import { httpRequest } from '../support/http';
import { apply, change, events, serving, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'steady';
const SCALE = 3;
/** In place of a minute: three of these make the cluster far, thirty make it near. */
const GOSSIP_EVERY_MS = 400;
/** One way: 150 ms to the head and back, 300 between the two, which is more than a probe of `lan` may take. */
const DELAY_MS = 75;
/** Consul's estimates follow within its next few dozen probes, which come every half second or every second. */
const TIMEOUT_MS = 90_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({
    nodes: 3,
    env: { CONTAINEROS_GOSSIP_EVERY_MS: String(GOSSIP_EVERY_MS) },
  });
  await apply(cluster.instance, webSpec(SERVICE, await cluster.web('v1'), { scale: SCALE }));
  await assertClusterConverged(cluster);
}, 180_000);

afterAll(() => cluster?.dispose(), 60_000);

/** What a node's agent runs with, as it says itself: it is what the agent was started with. */
async function timingOf(node: ClusterNode): Promise<GossipTiming> {
  const path = '/v1/agent/self';
  // A member's agent takes who asks on its loopback interface for its node, which may read.
  const answer =
    node === cluster.head
      ? await cluster.instance.askConsul(path)
      : await httpRequest(`http://${node.engine.loopbackAddress}:${cluster.instance.consulPort}${path}`);
  if (answer.status !== 200) throw new Error(`${node.name}: ${answer.status} ${answer.text}`);
  const { GossipLANProbeInterval: interval } = (
    answer.body as { readonly DebugConfig: { readonly GossipLANProbeInterval: string } }
  ).DebugConfig;
  for (const timing of ['lan', 'wan'] as const)
    if (GOSSIP_PROFILE[timing].probe_interval === interval) return timing;
  throw new Error(`${node.name} probes every ${interval}`);
}

const agentsHave = (timing: GossipTiming): Promise<void> =>
  eventually(
    async () => {
      const found = await Promise.all(cluster.nodes.map(timingOf));
      expect(found).toEqual(cluster.nodes.map(() => timing));
    },
    { timeoutMs: TIMEOUT_MS, intervalMs: 200, describe: `every agent has the timing ${timing}` },
  );

/** Every container of the service, and since when it runs. */
const runs = () => containerRuns(cluster, cluster.nodes, SERVICE);

const lost = async (): Promise<readonly string[]> =>
  (await events(cluster.instance, 'limit=500'))
    .filter(({ type }) => type === 'node.lost')
    .map(({ at, message }) => `${at} ${message}`);

/** When each node said that it restarts its agent, in the order of those times. */
const restarts = (timing: GossipTiming): readonly string[] =>
  cluster.nodes
    .flatMap(({ name, product }) =>
      product
        .log()
        .split('\n')
        .filter((line) => line.includes(`restarting the Consul agent with the gossip timing \\"${timing}\\"`))
        .map((line) => ({ name, at: (JSON.parse(line) as { readonly time: string | number }).time })),
    )
    .sort((left, right) => (left.at < right.at ? -1 : 1))
    .map(({ name }) => name);

clusterScenario(
  'nodes that are far apart get the wide timing, and the narrow one when they are near again; nothing is lost or restarted',
  () => cluster,
  async ({ head, instance, nodes, web }) => {
    const members = nodes.filter((node) => node !== head);
    const before = await runs();
    expect(before).toHaveLength(SCALE);
    await agentsHave('lan');
    await answering(cluster, SERVICE, async () => {
      for (const member of members) await member.delay(DELAY_MS);
      await agentsHave('wan');
      await assertClusterConverged(cluster);
      // Changes are made over that distance as well.
      await apply(instance, webSpec('far', await web('v2'), { scale: SCALE }));
      await serving(instance, 'far', SCALE, 'web v2');
      await change(instance, 'DELETE', '/v1/microservices/far');
      await assertClusterConverged(cluster);

      for (const member of members) await member.delay(0);
      await agentsHave('lan');
      await assertClusterConverged(cluster);
    });
    expect(await runs()).toEqual(before);
    expect(await lost()).toEqual([]);
    // Each agent once each way, that of the head first on the way to the wide timing, and last on the way back.
    const [first, ...others] = restarts('wan');
    expect([first, ...others.sort()]).toEqual(['node-1', 'node-2', 'node-3']);
    expect(restarts('lan').at(-1)).toBe('node-1');
    expect([...restarts('lan')].sort()).toEqual(['node-1', 'node-2', 'node-3']);
  },
  240_000,
);
