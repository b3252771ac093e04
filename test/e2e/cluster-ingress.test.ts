// Hostnames on a cluster of three real nodes: each node answers all of them, and clients that try nothing twice lose no
// request over what happens to replicas and nodes.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { httpRequest } from '../support/http';
import { startLoad, type LoadReport } from '../support/load';
import { longRequestServer, openWebSocket } from '../support/long-requests';
import { apply, change, events, removeMicroservice, replicas, serving, webSpec } from '../support/product';
import { askStrictly } from '../support/strict-https';
import { eventually } from '../support/wait';

const HOSTNAME = 'shop.localhost';
const SCALE = 4;
/** The node that leaves hostnames to the others. */
const WITHOUT = 'node-4';
const TIMEOUT_MS = 150_000;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({
    nodes: 4,
    memberFlags: (name) => (name === WITHOUT ? ['--node-label', 'ingress=false'] : []),
  });
}, 120_000);
afterAll(() => cluster?.dispose(), 60_000);

const deploy = async (tag: string): Promise<void> => {
  const container = { ports: [], httpPorts: { '80': HOSTNAME } };
  await apply(cluster.instance, webSpec('shop', await cluster.web(tag), { scale: SCALE, container }));
};

const settle = async (name: string, action: 'drain' | 'uncordon'): Promise<void> => {
  const { status, text } = await cluster.instance.api('POST', `/v1/nodes/${name}/${action}`);
  if (status !== 200) throw new Error(`${action} of ${name}: ${status} ${text}`);
};

const nodesOfReplicas = async (): Promise<readonly string[]> =>
  (await replicas(cluster.instance, 'shop')).map(({ node }) => node);

const ingressOf = (name: string): string => `${cluster.node(name).address}:80`;

const answersOn = (name: string, text: string, hostname = HOSTNAME): Promise<void> =>
  eventually(
    async () => {
      const answer = await httpRequest(`http://${ingressOf(name)}/`, { headers: { host: hostname } });
      expect(answer.text).toContain(text);
    },
    { describe: `${name} answers ${hostname} with "${text}"` },
  );

/** What clients of the ingress of one node saw of the steps. */
const underLoad = async (name: string, steps: () => Promise<void>): Promise<LoadReport> => {
  const load = startLoad({ address: ingressOf(name), hostname: HOSTNAME, clients: 4 });
  try {
    await steps();
  } finally {
    await load.stop();
  }
  return load.report();
};

test(
  'every node answers the hostname, also one on which no replica is',
  async () => {
    await deploy('v1');
    await Promise.all(['node-1', 'node-2', 'node-3'].map((name) => answersOn(name, 'web v1')));
    await change(cluster.instance, 'PATCH', '/v1/microservices/shop', { scale: 1 });
    await Promise.all(['node-1', 'node-2', 'node-3'].map((name) => answersOn(name, 'web v1')));
    await change(cluster.instance, 'PATCH', '/v1/microservices/shop', { scale: SCALE });
  },
  TIMEOUT_MS,
);

test(
  'a node that is labelled to have no ingress answers no hostname, has replicas for the others, and is waited for by nobody',
  async () => {
    const container = { ports: [], httpPorts: { '80': 'far.localhost' } };
    const far = webSpec('far', await cluster.web('far'), {
      scale: 1,
      container,
      constraints: { 'node.id': WITHOUT },
    });
    await apply(cluster.instance, far);
    await answersOn('node-1', 'web far', 'far.localhost');
    for (const port of [80, 443]) {
      await expect(httpRequest(`http://${cluster.node(WITHOUT).address}:${port}/`)).rejects.toThrow(
        'ECONNREFUSED',
      );
    }
    const { message } = await change(cluster.instance, 'POST', '/v1/microservices/far/restart');
    expect(message).not.toContain('confirmed');
    expect((await events(cluster.instance)).map(({ type }) => type)).not.toContain('ingress.behind');
    await removeMicroservice(cluster.instance, 'far');
  },
  TIMEOUT_MS,
);

test(
  'every node answers the hostname over HTTPS, also one that has lost the key and gets it again',
  async () => {
    const { body } = await cluster.instance.api('GET', '/v1/authority');
    const { certificate } = body as { readonly certificate: string };
    const answersSecurely = (name: string) =>
      eventually(
        async () => {
          const { address: host } = cluster.node(name);
          const { text } = await askStrictly({ host, hostname: HOSTNAME, root: certificate });
          expect(text).toContain('web v1');
        },
        { describe: `${name} answers over HTTPS` },
      );
    await Promise.all(['node-1', 'node-2', 'node-3'].map(answersSecurely));
    // As a machine has it that joined before there were such keys.
    const { dataDir } = cluster.node('node-3').product;
    const [key, shown] = [
      join(dataDir, 'membership', 'cluster-key'),
      join(dataDir, 'ingress', 'certificates', 'exact', HOSTNAME),
    ];
    rmSync(key);
    rmSync(shown);
    await cluster.node('node-3').restart();
    await answersSecurely('node-3');
    expect(readFileSync(key, 'utf8')).toBe(
      readFileSync(join(cluster.node('node-2').product.dataDir, 'membership', 'cluster-key'), 'utf8'),
    );
  },
  TIMEOUT_MS,
);

test(
  'no request is lost over deploys and a drain',
  async () => {
    const { failures, answered } = await underLoad('node-2', async () => {
      await deploy('v2');
      await settle('node-3', 'drain');
      await eventually(async () => expect(await nodesOfReplicas()).not.toContain('node-3'), {
        describe: 'node-3 is drained',
      });
      await deploy('v1');
      await settle('node-3', 'uncordon');
    });
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(100);
    await assertClusterConverged(cluster);
  },
  TIMEOUT_MS,
);

test(
  'when a node loses its power, only requests that were under way there are lost, and they are ended soon',
  async () => {
    await serving(cluster.instance, 'shop', SCALE, 'web v1');
    const container = { ports: [], httpPorts: { '80': 'talk.localhost' }, ...longRequestServer('talk') };
    await apply(cluster.instance, webSpec('talk', await cluster.web(), { scale: SCALE, container }));
    await answersOn('node-1', 'talk got 0', 'talk.localhost');
    const sockets = await Promise.all(
      Array.from({ length: 9 }, () => openWebSocket(ingressOf('node-1'), 'talk.localhost')),
    );
    const clients = 4;
    const load = startLoad({ address: ingressOf('node-1'), hostname: HOSTNAME, clients, timeoutMs: 10_000 });
    let report: LoadReport;
    try {
      await cluster.node('node-2').powerOff();
      await Promise.any(sockets.map((socket) => socket.closed())).catch(() => {
        throw new Error('no web socket was ended, also none to the lost node');
      });
      await serving(cluster.instance, 'shop', SCALE, 'web v1');
    } finally {
      report = await load.stop();
    }
    // A client has one request at a time.
    expect(report.failures.length).toBeLessThanOrEqual(clients);
    expect(await Promise.any(sockets.map((socket) => socket.echo('still there')))).toBeUndefined();
    for (const socket of sockets) socket.destroy();
    await removeMicroservice(cluster.instance, 'talk');
    await answersOn('node-3', 'web v1');
    await cluster.node('node-2').powerOn();
    await answersOn('node-2', 'web v1');
    await assertClusterConverged(cluster);
  },
  TIMEOUT_MS,
);

test(
  'the ingress goes on while the head node is away, and leads to what its own node restarts',
  async () => {
    const { failures } = await underLoad('node-3', async () => {
      await cluster.head.restart();
    });
    expect(failures).toEqual([]);
    await answersOn('node-3', 'web v1');
    await assertClusterConverged(cluster);
  },
  TIMEOUT_MS,
);
