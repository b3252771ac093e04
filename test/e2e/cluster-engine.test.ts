// The Docker Engine of a node of a real cluster stops and stays down while all else on the node lives: what it ran serves
// elsewhere before long, nothing waits for it, and all is as desired when it is back. One that is soon back moves nothing.
import { kill } from 'node:process';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import {
  answering,
  containersOn,
  replicasByNode,
  restoreCluster,
  untilHealth,
} from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import type { PlacementView } from '../../openapi/schemas';
import {
  apply,
  endpoints,
  microservice,
  read,
  removeAllBut,
  replicas,
  serving,
  webSpec,
} from '../support/product';
import { eventually } from '../support/wait';
import { ENGINE_LOST_AFTER_MS } from '../../workers/node/engine-absence';

const SERVICE = 'steady';
const SCALE = 3;
/** Beyond the time after which the engine counts as lost: to notice, to plan, and to start elsewhere on a busy machine. */
const REPLACED_WITHIN_MS = 20_000;
const NO_ANSWER = 'has had no answer from its Docker Engine since ';
const ELSEWHERE_TIMEOUT_MS = ENGINE_LOST_AFTER_MS + REPLACED_WITHIN_MS;

let cluster: Cluster;
let member: ClusterNode;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  member = cluster.node('node-3');
}, 180_000);

// What a failed test left must not fail those after it.
beforeEach(async () => {
  await restoreCluster(cluster);
  await removeAllBut(cluster.instance);
  await apply(cluster.instance, webSpec(SERVICE, await cluster.web('v1'), { scale: SCALE }));
  await assertClusterConverged(cluster);
  expect((await containersOn(cluster, member, SERVICE)).length).toBeGreaterThan(0);
}, 120_000);

afterAll(() => cluster?.dispose(), 60_000);

/** Waits until as many replicas as are desired answer on other nodes. @returns how long that took */
async function untilElsewhere(service: string, image: string): Promise<number> {
  const startedAt = performance.now();
  await eventually(
    async () => {
      const known = await endpoints(cluster.instance, service);
      expect(known.filter((address) => !address.startsWith(`${member.address}:`))).toHaveLength(SCALE);
    },
    { timeoutMs: ELSEWHERE_TIMEOUT_MS, describe: `${service} serves ${SCALE} times without ${member.name}` },
  );
  await serving(cluster.instance, service, SCALE, image);
  return performance.now() - startedAt;
}

/** Waits until the placement says that the node takes nothing, and why. */
const untilRefused = (service: string) =>
  eventually(
    async () => {
      const { nodes } = await read<PlacementView>(cluster.instance, `/v1/microservices/${service}/placement`);
      expect(nodes.find(({ node }) => node === member.name)).toMatchObject({
        fits: false,
        reason: expect.stringContaining(NO_ANSWER) as string,
      });
    },
    { timeoutMs: ELSEWHERE_TIMEOUT_MS, describe: `${member.name} takes nothing` },
  );

const onOthers = async (): Promise<readonly (readonly string[])[]> =>
  Promise.all(
    cluster.nodes.filter((node) => node !== member).map((node) => containersOn(cluster, node, SERVICE)),
  );

clusterScenario(
  'the engine of a member stays down: its replicas serve elsewhere, changes are made without it, and it comes back to all as desired',
  () => cluster,
  async ({ instance, web }) => {
    const stayed = await onOthers();
    await answering(cluster, SERVICE, async () => {
      await member.stopEngine();
      await untilHealth(cluster, member.name, 'degraded');
      const tookMs = await untilElsewhere(SERVICE, 'web v1');
      console.info(`all replicas served elsewhere ${Math.round(tookMs)} ms after the node was degraded`);
      // What served on the others was left alone.
      for (const [index, ids] of (await onOthers()).entries()) {
        expect(ids).toEqual(expect.arrayContaining([...(stayed[index] ?? [])]));
      }
      await untilRefused(SERVICE);
      await apply(instance, webSpec('fresh', await web('v1'), { scale: SCALE }), '60s');
      expect((await replicasByNode(cluster, 'fresh')).has(member.name)).toBe(false);
      await apply(instance, webSpec(SERVICE, await web('v2'), { scale: SCALE }), '60s');
      await untilElsewhere(SERVICE, 'web v2');

      await member.startEngine();
      await untilHealth(cluster, member.name, 'healthy');
      await assertClusterConverged(cluster);
      await serving(instance, SERVICE, SCALE, 'web v2');
    });
  },
);

clusterScenario(
  'an operation that waits for an engine that does not come back goes on without it',
  () => cluster,
  async ({ instance, web }) => {
    await answering(cluster, SERVICE, async () => {
      const image = await web('v2');
      // Nobody knows of it yet, so that work is planned for the node; what it runs goes on.
      await member.engine.freeze();
      try {
        await apply(instance, webSpec(SERVICE, image, { scale: SCALE }), '120s');
        const renewed = (await replicas(instance, SERVICE)).filter(
          ({ release, state }) => release === 2 && state === 'running',
        );
        expect(renewed).toHaveLength(SCALE);
        expect(renewed.map(({ node }) => node)).not.toContain(member.name);
      } finally {
        member.engine.thaw(); // nobody could look at it otherwise
      }
      await untilHealth(cluster, member.name, 'healthy');
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'an engine dies and its containers go on: what serves is left alone, and there is no other afterwards',
  () => cluster,
  async () => {
    const before = await onOthers();
    await answering(cluster, SERVICE, async () => {
      await member.engine.kill();
      await untilRefused(SERVICE);
      // What is there to be healed would be planned with this change.
      await apply(cluster.instance, webSpec('fresh', await cluster.web('v1'), { scale: SCALE }), '60s');
      await serving(cluster.instance, SERVICE, SCALE, 'web v1');
      expect(await onOthers()).toEqual(before);
      await member.startEngine();
      await untilHealth(cluster, member.name, 'healthy');
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'what goes on without its engine is replaced elsewhere when it fails',
  () => cluster,
  async ({ instance }) => {
    const [id = ''] = await containersOn(cluster, member, SERVICE);
    const { Pid } = (await member.engine.docker.getContainer(id).inspect()).State;
    await answering(cluster, SERVICE, async () => {
      await member.engine.kill();
      await untilRefused(SERVICE);
      await serving(instance, SERVICE, SCALE, 'web v1');
      const process = member.engine.hostPid(Pid);
      if (process === undefined) throw new Error('its process has ended with the engine');
      kill(process, 'SIGKILL');
      await untilElsewhere(SERVICE, 'web v1');
      await member.startEngine();
      await untilHealth(cluster, member.name, 'healthy');
      await assertClusterConverged(cluster);
    });
  },
);

clusterScenario(
  'what no other node may run waits for its engine, says so, and goes on when it is back',
  () => cluster,
  async ({ instance, web }) => {
    const spec = { ...webSpec('tied', await web('v1')), constraints: { 'node.id': member.name } };
    await apply(instance, spec);
    await member.stopEngine();
    await eventually(
      async () => {
        const { state, message } = await microservice(instance, 'tied');
        expect([state, message]).toEqual(['failed', expect.stringContaining(NO_ANSWER)]);
      },
      { timeoutMs: ELSEWHERE_TIMEOUT_MS, describe: 'it is said why it does not run' },
    );
    await member.startEngine();
    await serving(instance, 'tied', 1, 'web v1');
    await assertClusterConverged(cluster);
    await eventually(async () => expect((await microservice(instance, 'tied')).state).toBe('steady'), {
      describe: 'it is well again',
    });
  },
);

clusterScenario(
  'an engine that dies and is back within some seconds moves nothing',
  () => cluster,
  async ({ instance }) => {
    const before = await onOthers();
    await answering(cluster, SERVICE, async () => {
      await member.stopEngine();
      await untilHealth(cluster, member.name, 'degraded');
      await member.startEngine();
      await untilHealth(cluster, member.name, 'healthy');
      await serving(instance, SERVICE, SCALE, 'web v1');
      await assertClusterConverged(cluster);
    });
    expect(await onOthers()).toEqual(before);
    expect((await replicasByNode(cluster, SERVICE)).get(member.name)).toBe(1);
  },
);
