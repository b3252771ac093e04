// Machines of a real cluster that lose power, the head among them, and clocks that are off: what others run serves on and
// is healed by its own node, the cluster comes up again in whatever order its machines do, and nothing is restarted
// that runs.
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import {
  answering,
  containerRuns,
  containersEverywhere,
  restoreCluster,
  untilHealth,
} from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { apply, removeAllBut, serving, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'steady';
const SCALE = 3;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, clocks: true });
  await apply(cluster.instance, webSpec(SERVICE, await cluster.web('v1'), { scale: SCALE }));
}, 180_000);

// What a failed test left must not fail those after it.
beforeEach(async () => {
  for (const node of cluster.nodes) node.setClock('+0');
  await restoreCluster(cluster);
  await removeAllBut(cluster.instance, SERVICE);
  await assertClusterConverged(cluster);
}, 120_000);

afterAll(() => cluster?.dispose(), 60_000);

/** The process of a container, out here; undefined while it does not run. */
async function processOf({ engine }: ClusterNode, container: string): Promise<number | undefined> {
  const { State } = await engine.docker.getContainer(container).inspect();
  return State.Running ? engine.hostPid(State.Pid) : undefined;
}

clusterScenario(
  'the head loses power: the others serve and heal their containers; when it is back, nothing of theirs is touched',
  () => cluster,
  async ({ head, instance }) => {
    const members = cluster.nodes.filter((node) => node !== head);
    const runs = () => containerRuns(cluster, members, SERVICE);
    const before = await runs();
    const [victim] = before;
    if (victim === undefined) throw new Error('no member has a replica');
    const victimNode = cluster.node(victim.node);
    await answering(cluster, SERVICE, async () => {
      await head.powerOff();
      const pid = await processOf(victimNode, victim.id);
      if (pid === undefined) throw new Error('the container does not run');
      process.kill(pid, 'SIGKILL');
      await eventually(
        async () => {
          const now = await processOf(victimNode, victim.id);
          expect(now).toBeDefined();
          expect(now).not.toBe(pid);
        },
        { timeoutMs: 30_000, describe: 'its node has started the container again' },
      );
      const healed = await runs();
      const others = (all: typeof before) => all.filter(({ id }) => id !== victim.id);
      expect(healed.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
      expect(others(healed)).toEqual(others(before));
      await head.powerOn();
      await assertClusterConverged(cluster);
      expect(await runs()).toEqual(healed);
    });
    await serving(instance, SERVICE, SCALE, 'web v1');
  },
);

clusterScenario(
  'all but the head lose power at once: what the head has started serves until theirs does again',
  () => cluster,
  async ({ head, instance, nodes }) => {
    const members = nodes.filter((node) => node !== head);
    await Promise.all(members.map((node) => node.powerOff()));
    for (const { name } of members) await untilHealth(cluster, name, 'lost');
    await assertClusterConverged(cluster, { without: members.map(({ name }) => name) });
    await answering(cluster, SERVICE, async () => {
      await Promise.all(members.map((node) => node.powerOn()));
      await assertClusterConverged(cluster);
    });
    await serving(instance, SERVICE, SCALE, 'web v1');
  },
);

for (const order of [
  ['node-1', 'node-2', 'node-3'],
  ['node-3', 'node-2', 'node-1'],
  ['node-2', 'node-1', 'node-3'],
]) {
  clusterScenario(
    `the whole cluster loses power and comes back in the order ${order.join(', ')}`,
    () => cluster,
    async ({ instance, nodes }) => {
      await Promise.all(nodes.map((node) => node.powerOff()));
      const starting: Promise<void>[] = [];
      for (const name of order) {
        const node = cluster.node(name);
        // Whoever comes before the head is ready only when the head is there.
        const on = node.powerOn();
        starting.push(on);
        const runs = eventually(() => expect(node.product.pid('consul')).toBeGreaterThan(0), {
          timeoutMs: 30_000,
          describe: `ContainerOS starts on ${name}`,
        });
        await Promise.race([runs, on.then(() => runs)]);
      }
      await Promise.all(starting);
      await assertClusterConverged(cluster, { timeoutMs: 90_000 });
      await serving(instance, SERVICE, SCALE, 'web v1');
    },
  );
}

for (const offset of ['+3h', '-3h']) {
  clusterScenario(
    `the clock of a member is off by ${offset}: it goes on as a node, and its changes and losses are dealt with`,
    () => cluster,
    async ({ instance, web }) => {
      const member = cluster.node('node-2');
      const before = await containersEverywhere(cluster, SERVICE);
      await answering(cluster, SERVICE, async () => {
        member.setClock(offset);
        const asItIs = { clocksOff: [member.name] };
        const name = offset === '+3h' ? 'ahead' : 'behind';
        await apply(instance, webSpec(name, await web('v1'), { scale: SCALE }));
        await apply(instance, webSpec(name, await web('v2'), { scale: SCALE }));
        await serving(instance, name, SCALE, 'web v2');
        await assertClusterConverged(cluster, asItIs);
        expect(await containersEverywhere(cluster, SERVICE)).toEqual(before);
        // Its processes start with that clock, too.
        await member.restart();
        await assertClusterConverged(cluster, asItIs);
        await member.cut();
        await untilHealth(cluster, member.name, 'lost');
        await assertClusterConverged(cluster, { without: [member.name] });
        await member.heal();
        await assertClusterConverged(cluster, asItIs);
        await serving(instance, name, SCALE, 'web v2');
      });
    },
  );
}
