// On a real cluster: nodes that would have to take over have the images before, a few of them and by themselves, and a
// replica that is lost together with its node starts again while no registry is to be had.
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { answering, replicasByNode, restoreCluster, untilHealth } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { repositoryOf } from '../../domain/release-images';
import type { NodeView, OperationView } from '../../openapi/schemas';
import { MAX_SPARES } from '../../domain/placement/spares';
import { apply, events, read, serving, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'steady';
const SCALE = 2;
/** More than may have the image: those that run it, two spares, and one that is left alone at least. */
const NODES = 6;
/** Looks are ten seconds after a change, and half a minute apart when there are more. */
const AHEAD_TIMEOUT_MS = 60_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: NODES });
}, 180_000);

afterAll(() => cluster?.dispose(), 60_000);

/** Releases are pulled by their digests, without the tag. */
const isOf = (image: string, reference: string): boolean => reference.startsWith(`${repositoryOf(image)}@`);

/** Names of the nodes whose engine has the image. */
async function nodesWith(image: string): Promise<readonly string[]> {
  const having = await Promise.all(
    cluster.nodes.map(async ({ name, engine }) =>
      (await engine.docker.listImages()).some(({ RepoDigests: digests = [] }) =>
        digests.some((reference) => isOf(image, reference)),
      )
        ? [name]
        : [],
    ),
  );
  return having.flat().sort();
}

clusterScenario(
  'spares have the image before they are needed, so that the loss of a node needs no registry',
  () => cluster,
  async ({ head, instance, registry, web }) => {
    const image = await web('v1');
    await apply(instance, webSpec(SERVICE, image, { scale: SCALE }));
    const running = [...(await replicasByNode(cluster, SERVICE)).keys()].sort();
    expect(running).toHaveLength(SCALE);
    expect(await nodesWith(image)).toEqual(running);

    const spares = await eventually(
      async () => {
        const found = (await nodesWith(image)).filter((name) => !running.includes(name));
        const told = (await events(instance, 'limit=500'))
          .filter(({ type }) => type === 'image.pulled_ahead')
          .map(({ node }) => node);
        expect(found.length).toBeGreaterThan(0);
        // Whoever got it has told it, and the cluster knows it: only then it counts in the choice of a node.
        expect([...told].sort()).toEqual(found);
        for (const name of found)
          expect(
            (await read<NodeView>(instance, `/v1/nodes/${name}`)).images.some((one) => isOf(image, one)),
          ).toBe(true);
        return found;
      },
      { timeoutMs: AHEAD_TIMEOUT_MS, describe: 'spare nodes have the image' },
    );
    expect(spares.length).toBeLessThanOrEqual(MAX_SPARES);

    await registry.stop();
    try {
      const lost = cluster.nodes.find((node) => node !== head && running.includes(node.name));
      if (lost === undefined) throw new Error('no member runs a replica');
      await answering(cluster, SERVICE, async () => {
        await lost.powerOff();
        await untilHealth(cluster, lost.name, 'lost');
        await serving(instance, SERVICE, SCALE, 'web v1');
        await assertClusterConverged(cluster, { without: [lost.name] });
      });
      const now = await replicasByNode(cluster, SERVICE);
      const [replacement] = [...now.keys()].filter((name) => !running.includes(name) && now.get(name) === 1);
      expect(spares).toContain(replacement);
      const { items: operations } = await read<{ items: OperationView[] }>(
        instance,
        '/v1/operations?limit=100',
      );
      const [moved] = operations.filter(({ kind }) => kind === 'reschedule');
      expect(moved?.state).toBe('succeeded');
      expect(moved?.plan.filter((line) => line.includes('pull '))).toEqual([]);
    } finally {
      await registry.start();
      await restoreCluster(cluster);
    }
    await assertClusterConverged(cluster);
    expect((await nodesWith(image)).length).toBeLessThanOrEqual(SCALE + MAX_SPARES);
  },
);
