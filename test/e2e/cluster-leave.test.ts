// A node leaves its cluster by its own wish, is forced out of it, and is taken out by somebody else.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { identityKvKey, KV_ROOT } from '../../contracts/kv';
import type { NodeView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import { projectRoot } from '../support/process';
import { apply, events, read, replicas, serving, webSpec } from '../support/product';
import { eventually } from '../support/wait';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
}, 120_000);
afterAll(() => cluster.dispose(), 60_000);

const runOn = ({ engine }: ClusterNode, ...args: readonly string[]) =>
  engine.exec(
    [
      // As in a shell that has it for the commands of a cluster that was started with --dev.
      ...['env', 'CONTAINEROS_PASSWORD=dev'],
      process.execPath,
      join(projectRoot(), 'dist', 'workers', 'containeros.js'),
      ...args,
      ...['--data-dir', join(engine.folder, 'member')],
    ],
    { timeoutMs: 60_000 },
  );
const nodeIds = async () =>
  (await read<{ items: NodeView[] }>(cluster.instance, '/v1/nodes')).items.map(({ id }) => id);
/**
 * All is as desired without these, and nothing is known of them but that their certificates are refused. Consul lets go of
 * them soon after they have left.
 */
const isAsDesiredWithout = async (...gone: readonly string[]): Promise<void> => {
  await assertClusterConverged(cluster, { without: gone });
  const left = cluster.nodes.map(({ name }) => name).filter((name) => !gone.includes(name));
  expect(await nodeIds()).toEqual(left);
  await eventually(async () => {
    const known = await cluster.instance.consul<readonly { readonly Node: string }[]>('/v1/catalog/nodes');
    expect(known.map(({ Node }) => Node).sort()).toEqual(left);
    const keys = await cluster.instance.consul<readonly string[]>(`/v1/kv/${KV_ROOT}?keys`);
    expect(keys.filter((key) => gone.includes(key.split('/').at(-1) ?? ''))).toEqual(gone.map(identityKvKey));
  });
};
const isMemberOnDisk = ({ engine }: ClusterNode) =>
  existsSync(join(engine.folder, 'member', 'membership', 'membership.json'));

test('what a node runs is elsewhere before it has left, and nothing of it stays', async () => {
  await apply(cluster.instance, webSpec('web', await cluster.web(), { scale: 6 }));
  const leaving = cluster.node('node-3');
  expect((await replicas(cluster.instance, 'web')).some(({ node }) => node === leaving.name)).toBe(true);
  let fewest = 6;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      fewest = Math.min(
        fewest,
        (await replicas(cluster.instance, 'web')).filter(({ healthy }) => healthy).length,
      );
    }
  })();
  const { stdout } = await runOn(leaving, 'leave');
  isOver = true;
  await watching;
  expect(stdout).toMatch(/^Node node-3 has left the cluster at [\d.]+:7443\.$/m);
  expect(stdout).toMatch(/^The machine is free: .*containeros up would start a cluster of its own here\.$/m);
  expect(fewest).toBe(6);
  await isAsDesiredWithout('node-3');
  await serving(cluster.instance, 'web', 6, 'web v1');
  expect(await leaving.engine.docker.listContainers({ all: true })).toEqual([]);
  expect(leaving.product.isRunning()).toBe(false);
  expect(isMemberOnDisk(leaving)).toBe(false);
  await expect(runOn(leaving, 'leave')).rejects.toThrow(/no node of a cluster/);
  expect((await events(cluster.instance)).map(({ type }) => type)).toContain('node.removed');
}, 120_000);

test('one that is removed is refused from then on, and what it had is replaced', async () => {
  const removed = cluster.node('node-2');
  const answer = await cluster.instance.api('DELETE', '/v1/nodes/node-2');
  expect(answer.status).toBe(409);
  expect((await cluster.instance.api('DELETE', '/v1/nodes/node-2?force=true')).status).toBe(200);
  await serving(cluster.instance, 'web', 6, 'web v1');
  await isAsDesiredWithout('node-2', 'node-3');
  await eventually(() => expect(removed.product.isRunning()).toBe(false), { timeoutMs: 20_000 });
  expect(removed.product.log()).toMatch(
    /The cluster refuses this machine.*revoked.* Clean up with containeros leave/,
  );
  const { stdout } = await runOn(removed, 'leave');
  expect(stdout).toMatch(/Node node-2 has left/);
  expect(await removed.engine.docker.listContainers({ all: true })).toEqual([]);
  await isAsDesiredWithout('node-2', 'node-3');
}, 120_000);

test('the head node stays', async () => {
  const answer = await cluster.instance.api('DELETE', '/v1/nodes/node-1?force=true');
  expect(answer.status).toBe(409);
  expect(answer.text).toContain('runs the control plane');
});
