// A microservice that must never run twice, on a real cluster: wherever its node is cut off, without power, drained or
// back, it has ended in one place before it starts in another, by the word of the engines themselves.
import { LEASE_LASTS_MS } from '../../contracts/leases';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import { untilHealth } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { apply, replicas, serving, webSpec } from '../support/product';
import { recordRuns, type Run, type RunRecorder } from '../support/runs';
import { eventuallyValue } from '../support/wait';

const SERVICE = 'scheduler';
/** Of a node that is lost: until that is seen, and until its lease is over. */
const ELSEWHERE_TIMEOUT_MS = 60_000;

let cluster: Cluster;
let runs: RunRecorder;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
  // Only members are to hold it here, as the head's faults are those of the whole control plane.
  expect((await cluster.instance.api('POST', `/v1/nodes/${cluster.head.name}/cordon`)).status).toBe(200);
  await apply(cluster.instance, webSpec(SERVICE, await cluster.web('v1'), { exclusive: true }));
  runs = await recordRuns(
    SERVICE,
    cluster.nodes.map(({ engine }) => engine),
  );
  expect(runs.runs()).toHaveLength(1);
}, 180_000);

afterAll(async () => {
  runs?.stop();
  await cluster?.dispose();
}, 60_000);

/** The node that runs it, by the API's word. */
async function holder(): Promise<ClusterNode> {
  const [replica, ...others] = await replicas(cluster.instance, SERVICE);
  expect(others).toEqual([]);
  return cluster.node(replica?.node ?? 'no node');
}

/** The last two runs, once there is another one than before. */
async function afterMove(known: number): Promise<readonly [was: Run, is: Run]> {
  const all = await eventuallyValue(
    () => runs.runs(),
    (found) => found.length > known,
    { timeoutMs: ELSEWHERE_TIMEOUT_MS, describe: 'it runs elsewhere' },
  );
  const [was, is] = all.slice(-2);
  if (was === undefined || is === undefined || all.length !== known + 1)
    throw new Error(`not one more run than ${known}: ${JSON.stringify(all)}`);
  return [was, is];
}

/** Whoever asks is led to one replica, everything is as desired, and nothing has run since, or at once. */
async function runsOnce(count: number): Promise<void> {
  await assertClusterConverged(cluster);
  await serving(cluster.instance, SERVICE, 1, 'web v1');
  expect(runs.runs()).toHaveLength(count);
  expect(runs.mostAtOnce()).toBe(1);
}

// In this order: each goes on with the replica of the one before.
clusterScenario(
  'its node is cut off: it stops itself there before another one starts, and stays stopped when the node is back',
  () => cluster,
  async () => {
    const node = await holder();
    const cutAtMs = Date.now();
    await node.cut();
    const [was, is] = await afterMove(1);
    expect(was.endedAtMs).toBeGreaterThan(cutAtMs);
    expect(was.endedAtMs).toBeLessThan(is.startedAtMs);
    await assertClusterConverged(cluster, { without: [node.name] });
    await node.heal();
    await untilHealth(cluster, node.name, 'healthy');
    await runsOnce(2);
    expect((await holder()).name).not.toBe(node.name);
  },
);

clusterScenario(
  'its node loses power: another one waits for the lease, as nobody knows; the node starts nothing when it is back',
  () => cluster,
  async () => {
    const node = await holder();
    const offAtMs = Date.now();
    await node.powerOff();
    runs.noteEnd(node.engine, Date.now());
    const [, is] = await afterMove(2);
    expect(is.startedAtMs - offAtMs).toBeGreaterThan(LEASE_LASTS_MS);
    await assertClusterConverged(cluster, { without: [node.name] });
    await node.engine.powerOn();
    await runs.follow(node.engine);
    await node.powerOn();
    await runsOnce(3);
    expect((await holder()).name).not.toBe(node.name);
  },
);

clusterScenario(
  'its node is drained: it stops there, and starts elsewhere without waiting for the lease',
  () => cluster,
  async ({ instance }) => {
    const node = await holder();
    expect((await instance.api('POST', `/v1/nodes/${node.name}/drain`)).status).toBe(200);
    const [was, is] = await afterMove(3);
    expect(was.endedAtMs).toBeLessThan(is.startedAtMs);
    expect(is.startedAtMs - (was.endedAtMs ?? 0)).toBeLessThan(LEASE_LASTS_MS);
    expect((await instance.api('POST', `/v1/nodes/${node.name}/uncordon`)).status).toBe(200);
    await runsOnce(4);
    expect((await holder()).name).not.toBe(node.name);
  },
);
