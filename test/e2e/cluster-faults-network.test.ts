// Nodes of a real cluster that are cut off, alone or together, and in the middle of work: what they ran is replaced
// elsewhere without a moment at which nobody answers; when they are back, what is too much stops.
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import {
  answering,
  containerRuns,
  containersOn,
  forgetLosses,
  pageInside,
  replicasByNode,
  restoreCluster,
  untilHealth,
} from '../support/cluster/faults';
import type { ClusterNode } from '../support/cluster/cluster-node';
import { clusterScenario } from '../support/cluster/scenario';
import {
  apply,
  applyAsync,
  change,
  ended,
  events,
  removeAllBut,
  replicas,
  serving,
  webSpec,
} from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'steady';
const SCALE = 4;
/** As Consul's agent says it of a member. */
const SERF_FAILED = 4;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 4 });
  await apply(cluster.instance, webSpec(SERVICE, await cluster.web('v1'), { scale: SCALE }));
  await cluster.web('v2');
}, 180_000);

// What a failed test left must not fail those after it.
beforeEach(async () => {
  await restoreCluster(cluster);
  await removeAllBut(cluster.instance, SERVICE);
  await assertClusterConverged(cluster);
}, 120_000);

afterAll(() => cluster?.dispose(), 60_000);

clusterScenario(
  'a node that is cut off gets no traffic and is replaced; when it is back, its surplus stops',
  () => cluster,
  async ({ instance }) => {
    const lost = cluster.node('node-3');
    await answering(cluster, SERVICE, async () => {
      const old = await containersOn(cluster, lost, SERVICE);
      expect(old.length).toBeGreaterThan(0);
      await lost.cut();
      await untilHealth(cluster, lost.name, 'lost');
      await serving(instance, SERVICE, SCALE, 'web v1');
      await assertClusterConverged(cluster, { without: [lost.name] });
      await lost.heal();
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'the head is cut off and holds all others for lost: they serve on, and when it is back, nothing of theirs is touched',
  () => cluster,
  async ({ head, instance, nodes }) => {
    const members = nodes.filter((node) => node !== head);
    const runs = () => containerRuns(cluster, nodes, SERVICE);
    const told = () => events(instance, 'type=node.&limit=500');
    const toldBefore = new Set((await told()).map(({ id }) => id));
    const before = await runs();
    expect(before.map(({ node }) => node)).toEqual(nodes.map(({ name }) => name));
    const there = (await replicas(instance, SERVICE)).filter(({ node }) => node !== head.name);
    const endpoints = there.flatMap(({ ports }) => ports.map(({ address }) => address));
    await answering(cluster, SERVICE, async () => {
      // As when its cable is pulled, but that the tests still reach it.
      for (const { name } of members) await cluster.cutBetween(head.name, name);
      for (const { name } of members) await untilHealth(cluster, name, 'lost');
      await assertClusterConverged(cluster, { without: members.map(({ name }) => name) });
      expect(await containersOn(cluster, head, SERVICE)).toHaveLength(SCALE);
      for (const { engine } of members)
        for (const endpoint of endpoints) expect(await pageInside(engine, endpoint)).toMatch(/^200 web v1/);
      await cluster.healNetwork();
      await assertClusterConverged(cluster);
    });
    expect(await runs()).toEqual(before);
    // No loss is held against those who were not away.
    const news = (await told()).filter(({ id }) => !toldBefore.has(id));
    const nodesOf = (wanted: string) =>
      news
        .filter(({ type }) => type === wanted)
        .map(({ node }) => node)
        .sort();
    const names = members.map(({ name }) => name);
    expect(['lost', 'returned', 'unstable'].map((what) => nodesOf(`node.${what}`))).toEqual([
      names,
      names,
      [],
    ]);
  },
);

/** The other nodes that a node's own agent holds for failed. */
async function heldForFailedBy(node: ClusterNode): Promise<readonly string[]> {
  const ask = `fetch('http://127.0.0.1:${cluster.instance.consulPort}/v1/agent/members').then(async (answer) => console.log(await answer.text()))`;
  const { stdout } = await node.engine.exec([process.execPath, '-e', ask]);
  const members = JSON.parse(stdout) as readonly { readonly Name: string; readonly Status: number }[];
  return members.filter(({ Status }) => Status === SERF_FAILED).map(({ Name }) => Name);
}

clusterScenario(
  'a node that holds the others for failed when it is back makes none of them lost',
  () => cluster,
  async ({ instance }) => {
    const lost = cluster.node('node-3');
    const toldBefore = new Set((await events(instance, 'type=node.lost')).map(({ id }) => id));
    await lost.cut();
    await eventually(async () => expect(await heldForFailedBy(lost)).toHaveLength(cluster.nodes.length - 1), {
      timeoutMs: 60_000,
      describe: `${lost.name} holds all others for failed`,
    });
    await lost.heal();
    await untilHealth(cluster, lost.name, 'healthy');
    await assertClusterConverged(cluster);
    const told = (await events(instance, 'type=node.lost')).filter(({ id }) => !toldBefore.has(id));
    expect(told.map(({ node }) => node)).toEqual([lost.name]);
  },
);

clusterScenario(
  'two nodes that are lost at once are replaced by the others',
  () => cluster,
  async ({ instance }) => {
    const lost = [cluster.node('node-2'), cluster.node('node-4')];
    await answering(cluster, SERVICE, async () => {
      await Promise.all(lost.map((each) => each.cut()));
      await Promise.all(lost.map(({ name }) => untilHealth(cluster, name, 'lost')));
      await serving(instance, SERVICE, SCALE, 'web v1');
      await assertClusterConverged(cluster, { without: lost.map(({ name }) => name) });
      await Promise.all(lost.map((each) => each.heal()));
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'a node that is lost in the middle of a deploy does not keep it from ending well',
  () => cluster,
  async ({ instance, web }) => {
    const lost = cluster.node('node-2');
    await apply(instance, webSpec('moving', await web('v1'), { scale: SCALE }));
    await answering(cluster, 'moving', async () => {
      const { id } = await applyAsync(instance, webSpec('moving', await web('v2'), { scale: SCALE }));
      await eventually(
        async () => {
          const started = (await replicas(instance, 'moving')).filter(({ release }) => release === 2);
          if (started.length === 0) throw new Error('nothing of it runs');
        },
        { intervalMs: 10, describe: 'the deploy is in its middle' },
      );
      await lost.cut();
      const operation = await ended(instance, id, 90_000);
      expect([operation.state, operation.message]).toEqual(['succeeded', expect.anything()]);
      await serving(instance, 'moving', SCALE, 'web v2');
      await assertClusterConverged(cluster, { without: [lost.name] });
      await lost.heal();
      await assertClusterConverged(cluster);
      await serving(instance, 'moving', SCALE, 'web v2');
    });
  },
);

clusterScenario(
  'a node that is lost in the middle of its drain comes back empty, and takes replicas when it may again',
  () => cluster,
  async ({ instance, web }) => {
    const lost = cluster.node('node-3');
    await answering(cluster, SERVICE, async () => {
      expect((await instance.api('POST', `/v1/nodes/${lost.name}/drain`)).status).toBe(200);
      await lost.cut();
      await untilHealth(cluster, lost.name, 'lost');
      await assertClusterConverged(cluster, { without: [lost.name] });
      await lost.heal();
      await untilHealth(cluster, lost.name, 'healthy');
      await assertClusterConverged(cluster);
      expect(await containersOn(cluster, lost, SERVICE)).toEqual([]);
      expect((await instance.api('POST', `/v1/nodes/${lost.name}/uncordon`)).status).toBe(200);
      // It was lost several times lately, so that nothing is moved there for its own sake: a daemon belongs everywhere.
      await apply(instance, { ...webSpec('everywhere', await web('v1')), daemon: true });
      expect((await replicasByNode(cluster, 'everywhere')).get(lost.name)).toBe(1);
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'a node that comes back with containers of what was changed or removed meanwhile keeps none of them',
  () => cluster,
  async ({ instance, web }) => {
    const lost = cluster.node('node-4');
    // It was lost before, and one that comes and goes would get nothing here that it could keep.
    await forgetLosses(instance, lost.name);
    await apply(instance, webSpec('changed', await web('v1'), { scale: SCALE }));
    await apply(instance, webSpec('removed', await web('v1'), { scale: SCALE }));
    await apply(instance, webSpec('shrunk', await web('v1'), { scale: SCALE }));
    await apply(instance, webSpec('again', await web('v1'), { scale: SCALE }));
    for (const name of ['changed', 'removed', 'shrunk', 'again'])
      expect((await replicasByNode(cluster, name)).get(lost.name)).toBeGreaterThan(0);
    await lost.cut();
    await untilHealth(cluster, lost.name, 'lost');
    await Promise.all([
      apply(instance, webSpec('changed', await web('v2'), { scale: SCALE })),
      change(instance, 'DELETE', '/v1/microservices/removed'),
      change(instance, 'PATCH', '/v1/microservices/shrunk', { scale: 0 }),
      change(instance, 'DELETE', '/v1/microservices/again').then(async () =>
        apply(instance, webSpec('again', await web('v2'), { scale: 1 })),
      ),
    ]);
    await serving(instance, 'changed', SCALE, 'web v2');
    await lost.heal();
    await assertClusterConverged(cluster);
    expect(await containersOn(cluster, lost, 'removed')).toEqual([]);
    expect(await containersOn(cluster, lost, 'shrunk')).toEqual([]);
    await serving(instance, 'changed', SCALE, 'web v2');
    await serving(instance, 'again', 1, 'web v2');
  },
);
