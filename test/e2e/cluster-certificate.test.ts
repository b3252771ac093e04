// A node of a real cluster whose certificate is about to run out: all that it does goes on under the new one.
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createSigningRequest, openAuthority } from '../../adapters/certificates/authority';
import { identityKvKey } from '../../contracts/kv';
import type { NodeIdentity } from '../../domain/identity';
import type { NodeView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { answering, containersEverywhere } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { httpRequest } from '../support/http';
import { apply, events, read, replicas, serving, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const DAY_MS = 86_400_000;
const LASTS_MS = 45_000;
const STEADY = 'steady';

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 2 });
}, 120_000);
afterAll(() => cluster?.dispose(), 60_000);

/** The files of node-2, and what its Consul agent answers when it has to ask a server for it. */
const member = () => {
  const { engine, product } = cluster.node('node-2');
  const file = (name: string) => join(product.dataDir, 'membership', name);
  const { token } = (
    JSON.parse(readFileSync(file('membership.json'), 'utf8')) as {
      readonly consul: { readonly token: string };
    }
  ).consul;
  const askAgent = async (method: string, path: string) => {
    const answer = await httpRequest(`http://${engine.loopbackAddress}:8500/v1${path}`, {
      method,
      headers: { 'x-consul-token': token },
    });
    if (answer.status !== 200) throw new Error(`the agent: ${answer.status} ${answer.text}`);
    return answer.body;
  };
  return { file, askAgent, certificate: () => new X509Certificate(readFileSync(file('node.pem'))) };
};

/** As if the node had been given it most of a year ago: it shows it, and the cluster takes it, until it runs out. */
const giveShortCertificate = async () => {
  const { instance } = cluster;
  const { file, askAgent, certificate } = member();
  const head = (name: string) => readFileSync(join(instance.dataDir, 'cluster', name), 'utf8');
  const authority = await openAuthority({
    certificatePem: head('authority.pem'),
    keyPem: head('authority-key.pem'),
  });
  const { signingRequestPem } = await createSigningRequest(
    'node-2',
    readFileSync(file('node-key.pem'), 'utf8'),
  );
  const issued = await authority.issueNodeCertificate({
    nodeId: 'node-2',
    signingRequestPem,
    clusterId: instance.clusterId(),
    nowMs: Date.now() + LASTS_MS - 365 * DAY_MS,
  });
  const path = `/v1/kv/${identityKvKey('node-2')}`;
  const known = JSON.parse((await instance.askConsul(`${path}?raw`)).text) as NodeIdentity;
  expect(known.nodeId).toBe('node-2');
  const identity: NodeIdentity = {
    ...known,
    serial: issued.serial,
    previousSerial: certificate().serialNumber.toLowerCase(),
    expiresAtMs: issued.expiresAtMs,
  };
  const put = await instance.askConsul(path, { method: 'PUT', body: JSON.stringify(identity) });
  expect(put.status).toBe(200);
  writeFileSync(file('next.pem'), issued.certificatePem, { mode: 0o600 });
  renameSync(file('next.pem'), file('node.pem'));
  await askAgent('PUT', '/agent/reload');
  return certificate();
};

clusterScenario(
  'a node whose certificate runs out goes on under the new one, with every connection that it has',
  () => cluster,
  async ({ instance, web }) => {
    const node = cluster.node('node-2');
    const { file, askAgent, certificate } = member();
    await apply(instance, webSpec(STEADY, await web('v1'), { scale: 2 }));
    await serving(instance, STEADY, 2, 'web v1');
    const containers = await containersEverywhere(cluster, STEADY);
    const agent = node.product.pid('consul');

    await answering(cluster, STEADY, async () => {
      const short = await giveShortCertificate();
      // What is started anew looks whether its certificate is due; the agent goes on with what it has read.
      node.kill('node');
      await eventually(() => expect(certificate().serialNumber).not.toBe(short.serialNumber), {
        timeoutMs: 30_000,
      });
      await eventually(() => expect(existsSync(file('reload-due'))).toBe(false), { timeoutMs: 30_000 });
      expect(Date.parse(certificate().validTo) - Date.now()).toBeGreaterThan(300 * DAY_MS);
      // Whatever showed another one from now on would be refused, by the cluster port and by Consul.
      await eventually(() => expect(Date.now()).toBeGreaterThan(Date.parse(short.validTo)), {
        timeoutMs: LASTS_MS + 5_000,
      });

      // The agent has to show a certificate again, as the server has forgotten its connections.
      const server = cluster.head.product.pid('consul');
      cluster.head.kill('consul');
      await eventually(() => expect(cluster.head.product.pid('consul')).not.toBe(server));
      await eventually(async () => {
        const nodes = await askAgent('GET', '/catalog/nodes?consistent');
        expect((nodes as { readonly Node: string }[]).map(({ Node }) => Node).sort()).toEqual([
          'node-1',
          'node-2',
        ]);
      });
      // Work, documents, and what the node is asked for.
      await eventually(async () =>
        expect(await read<NodeView>(instance, '/v1/nodes/node-2')).toMatchObject({
          health: 'healthy',
          connected: true,
        }),
      );
      expect((await instance.api('POST', '/v1/nodes/node-1/cordon')).status).toBe(200);
      await apply(instance, webSpec('later', await web('v1'), { scale: 2 }));
      await serving(instance, 'later', 2, 'web v1');
      // The API follows Consul again some time after that was away.
      await eventually(async () =>
        expect((await replicas(instance, 'later')).map((one) => one.node)).toEqual(['node-2', 'node-2']),
      );
      const logs = await instance.api('GET', '/v1/microservices/later/logs?tail=1');
      expect(logs.status).toBe(200);
      await instance.api('POST', '/v1/nodes/node-1/uncordon');
      await assertClusterConverged(cluster);
    });

    expect(node.product.pid('consul')).toBe(agent);
    expect(await containersEverywhere(cluster, STEADY)).toEqual(containers);
    expect((await events(instance)).filter(({ type }) => type === 'node.lost')).toEqual([]);
  },
  240_000,
);
