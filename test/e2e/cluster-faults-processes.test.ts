// Parts of ContainerOS and engines that die or hang on a node of a real cluster: what serves goes on serving, what is
// lost is replaced elsewhere, and all is as desired when they are back.
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import {
  answering,
  containersEverywhere,
  replicasByNode,
  restoreCluster,
  untilHealth,
} from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import type { Role } from '../support/product-process';
import { apply, change, events, read, removeAllBut, serving, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'steady';
const SCALE = 3;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  await apply(cluster.instance, webSpec(SERVICE, await cluster.web('v1'), { scale: SCALE }));
}, 180_000);

// What a failed test left must not fail those after it.
beforeEach(async () => {
  await restoreCluster(cluster);
  for (const { name } of cluster.nodes) await cluster.instance.api('POST', `/v1/nodes/${name}/uncordon`);
  await removeAllBut(cluster.instance, SERVICE);
  await assertClusterConverged(cluster);
}, 120_000);

afterAll(() => cluster?.dispose(), 60_000);

/** Waits until another process has taken the place of the one that was killed. */
async function killed(node: ClusterNode, role: Role): Promise<void> {
  const old = node.product.pid(role);
  node.kill(role);
  await eventually(() => expect(node.product.pid(role)).not.toBe(old), {
    describe: `${role} is started again`,
  });
}

clusterScenario(
  'the node worker of a member hangs: it is ended and started again, and nothing that runs is touched',
  () => cluster,
  async ({ instance }) => {
    const member = cluster.node('node-2');
    const before = await containersEverywhere(cluster, SERVICE);
    const old = member.product.pid('node');
    await answering(cluster, SERVICE, async () => {
      await member.freeze('node');
      // Meanwhile changes are made, with or without it.
      await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: SCALE });
      await eventually(() => expect(member.product.pid('node')).not.toBe(old), {
        timeoutMs: 60_000,
        describe: 'its supervisor has ended it',
      });
      await assertClusterConverged(cluster);
    });
    expect(await containersEverywhere(cluster, SERVICE)).toEqual(before);
  },
);

clusterScenario(
  'a deploy while the node worker of a member hangs ends well without it',
  () => cluster,
  async ({ instance, web }) => {
    const member = cluster.node('node-3');
    await member.freeze('node');
    await apply(instance, webSpec('fresh', await web('v1'), { scale: SCALE }), '90s');
    await serving(instance, 'fresh', SCALE, 'web v1');
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  'the Docker Engine of a member dies and comes back: its containers serve again',
  () => cluster,
  async ({ instance }) => {
    const member = cluster.node('node-2');
    await answering(cluster, SERVICE, async () => {
      await member.engine.kill();
      await untilHealth(cluster, member.name, 'degraded');
      await member.startEngine();
      await assertClusterConverged(cluster);
      await serving(instance, SERVICE, SCALE, 'web v1');
    });
  },
);

clusterScenario(
  'the Docker Engine of a member stops, and with it its containers: they serve elsewhere or when it is back',
  () => cluster,
  async ({ instance }) => {
    const member = cluster.node('node-3');
    await answering(cluster, SERVICE, async () => {
      await member.stopEngine();
      await untilHealth(cluster, member.name, 'degraded');
      await apply(instance, webSpec('elsewhere', await cluster.web('v1'), { scale: 2 }));
      expect((await replicasByNode(cluster, 'elsewhere')).has(member.name)).toBe(false);
      await member.startEngine();
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'the Consul agent of a member is killed: its supervisor starts it again, and containers stay',
  () => cluster,
  async () => {
    const member = cluster.node('node-2');
    const before = await containersEverywhere(cluster, SERVICE);
    await answering(cluster, SERVICE, async () => {
      await killed(member, 'consul');
      await assertClusterConverged(cluster);
    });
    // Back before anybody had to act on it.
    expect(await containersEverywhere(cluster, SERVICE)).toEqual(before);
  },
);

clusterScenario(
  'the Consul agent of a member cannot start any more: the node is lost, and back when it can',
  () => cluster,
  async ({ instance }) => {
    const member = cluster.node('node-3');
    const data = join(member.product.dataDir, 'consul');
    const aside = `${data}-aside`;
    expect(existsSync(data)).toBe(true);
    await answering(cluster, SERVICE, async () => {
      renameSync(data, aside);
      writeFileSync(data, 'no directory');
      try {
        member.kill('consul');
        await untilHealth(cluster, member.name, 'lost');
        await serving(instance, SERVICE, SCALE, 'web v1');
        await assertClusterConverged(cluster, { without: [member.name] });
      } finally {
        rmSync(data);
        renameSync(aside, data);
      }
      await untilHealth(cluster, member.name, 'healthy');
      await assertClusterConverged(cluster);
    });
  },
);

for (const role of ['api', 'control-plane', 'consul', 'temporal'] as const) {
  clusterScenario(
    `kill -9 of ${role} on the head: nothing is moved, and changes are made again`,
    () => cluster,
    async ({ head, instance, web }) => {
      const before = await containersEverywhere(cluster, SERVICE);
      await answering(cluster, SERVICE, async () => {
        await killed(head, role);
        await assertClusterConverged(cluster);
      });
      expect(await containersEverywhere(cluster, SERVICE)).toEqual(before);
      await apply(instance, webSpec('after', await web('v1'), { scale: SCALE }));
      await assertClusterConverged(cluster);
    },
  );
}

clusterScenario(
  'Temporal dies while a node is being lost: its replicas are replaced all the same',
  () => cluster,
  async ({ head, instance }) => {
    const lost = cluster.node('node-2');
    await answering(cluster, SERVICE, async () => {
      await lost.cut();
      head.kill('temporal');
      await untilHealth(cluster, lost.name, 'lost');
      await serving(instance, SERVICE, SCALE, 'web v1');
      await assertClusterConverged(cluster, { without: [lost.name] });
      await lost.heal();
      await assertClusterConverged(cluster);
    });
  },
);

/** Drains a node, does something in the middle, and expects it to be drained in the end, without a gap. */
async function drained(strike: () => void | Promise<void>): Promise<void> {
  const { instance } = cluster;
  const node = cluster.node('node-2');
  const since = Date.now();
  await apply(instance, webSpec('second', await cluster.web('v1'), { scale: SCALE }));
  await answering(cluster, SERVICE, async () => {
    expect((await instance.api('POST', `/v1/nodes/${node.name}/drain`)).status).toBe(200);
    await strike();
    await eventually(
      async () => {
        expect((await replicasByNode(cluster, SERVICE)).has(node.name)).toBe(false);
        const { replicas } = await read<{ readonly replicas: number }>(instance, `/v1/nodes/${node.name}`);
        expect(replicas).toBe(0);
        const told = (await events(instance, 'limit=200')).filter(
          ({ type, at, node: of }) => type === 'node.drained' && of === node.name && Date.parse(at) >= since,
        );
        expect(told).toHaveLength(1);
      },
      { timeoutMs: 60_000, describe: `${node.name} is drained, and that is told once` },
    );
    await assertClusterConverged(cluster);
    expect((await instance.api('POST', `/v1/nodes/${node.name}/uncordon`)).status).toBe(200);
    await assertClusterConverged(cluster);
  });
}

clusterScenario(
  'a node is drained without a moment at which nobody answers',
  () => cluster,
  () => drained(() => undefined),
);

clusterScenario(
  'the control plane dies in the middle of a drain, which goes on',
  () => cluster,
  () => drained(() => killed(cluster.head, 'control-plane')),
);

clusterScenario(
  'everything on the head dies in the middle of a drain, which goes on',
  () => cluster,
  () =>
    drained(async () => {
      await cluster.head.product.killAll();
      await cluster.head.product.start();
    }),
);
