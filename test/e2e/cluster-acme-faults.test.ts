// Certificates of public hostnames on a cluster of three real nodes, with a real ACME server (Pebble) for the internet,
// while workers are killed, a node is lost, a certificate is revoked, and one ends.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createTestAuthority, type TestAuthority } from '../support/certificates';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { restoreCluster, untilHealth } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { startPebble, type GateAnswerer, type Pebble } from '../support/pebble';
import { apply, webSpec } from '../support/product';
import { askStrictly, startHandshakes } from '../support/strict-https';
import { eventually } from '../support/wait';
import { useWorld } from '../support/world';

const NODES = ['node-1', 'node-2', 'node-3'] as const;
const PATIENCE = { timeoutMs: 120_000, intervalMs: 250 };
/** What is asked of the authority when it is to look at an answer, to certify, and to begin. */
const CHALLENGED = '/chalZ/';
const FINALISED = '/finalize-order/';
const ORDERED = '/order-plz';

let folder: string;
let pebble: Pebble;
let people: TestAuthority;
let cluster: Cluster;
/** Of the authority's certificates. */
let root: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-acme-'));
  const world = await useWorld();
  pebble = await startPebble({ host: world.ownerAddress, httpPort: 80 });
  pebble.suggestRenewal('by revocation');
  people = createTestAuthority('People');
  root = await pebble.rootPem();
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, pebble.caPem);
  cluster = await startCluster({
    nodes: NODES.length,
    headFlags: ['--acme-directory', pebble.directory, '--acme-ca-file', caFile],
    env: { CONTAINEROS_ACME_RESOLVER: pebble.resolver },
  });
}, 300_000);

afterEach(async () => {
  pebble.answer(undefined);
  await restoreCluster(cluster);
}, 60_000);

afterAll(async () => {
  await cluster?.dispose();
  await pebble?.close();
  people?.dispose();
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

/** Has DNS lead a hostname to a node. */
const point = async (hostname: string, node: string): Promise<void> => {
  await pebble.dns('clear-a', { host: `${hostname}.` });
  await pebble.dns('add-a', { host: `${hostname}.`, addresses: [cluster.node(node).address] });
};

const deploy = async (name: string, hostname: string): Promise<void> => {
  const container = { ports: [], httpPorts: { '80': hostname } };
  await apply(cluster.instance, webSpec(name, await cluster.web(), { scale: 2, container }));
};

const ask = (node: string, hostname: string, trusted = root) =>
  askStrictly({ host: cluster.node(node).address, hostname, root: trusted });

/** Waits until these nodes answer with one certificate of the authority. @returns its serial number */
const certifiedOn = (nodes: readonly string[], hostname: string): Promise<string> =>
  eventually(
    async () => {
      const answers = await Promise.all(nodes.map((node) => ask(node, hostname)));
      for (const { text } of answers) expect(text).toContain('web v1');
      const serials = [...new Set(answers.map(({ serial }) => serial))];
      expect(serials).toHaveLength(1);
      return serials[0] ?? '';
    },
    { ...PATIENCE, describe: `${nodes.join(', ')} answer ${hostname} over HTTPS` },
  );

interface View {
  readonly state: string;
  readonly message: string;
  readonly source?: string;
  readonly issuing?: {
    readonly state: string;
    readonly failedAttempts: number;
    readonly lastError?: { readonly kind: string; readonly message: string };
  };
}

const viewOf = async (hostname: string): Promise<View> =>
  (await cluster.instance.api('GET', `/v1/certificates/${hostname}`)).body as View;

const retry = async (hostname: string): Promise<void> => {
  const { status } = await cluster.instance.api('POST', `/v1/certificates/${hostname}/retry`);
  expect(status).toBe(202);
};

/** Nothing of the way to a certificate is left once it is there. */
const assertNothingLeft = (): Promise<void> =>
  eventually(async () => {
    const keys = await cluster.instance.askConsul('/v1/kv/containeros/?recurse=true&keys');
    // Beside the folders.
    for (const kind of [/http-challenges\/[^"]/, /acme-orders\/[^"]/]) expect(keys.text).not.toMatch(kind);
  }, PATIENCE);

/** Does something when the authority is asked this for the first time, before it answers. */
const onceAsked = (path: string, body: () => void | Promise<void>): GateAnswerer => {
  let isDone = false;
  return async (request) => {
    if (isDone || request.method !== 'POST' || !request.path.startsWith(path)) return undefined;
    isDone = true;
    await body();
    return undefined;
  };
};

clusterScenario(
  'a certificate is issued by one order although the worker that asks for it is killed twice on the way',
  () => cluster,
  async () => {
    const hostname = 'shop.example.org';
    await point(hostname, 'node-3');
    const kills: string[] = [];
    const killAt = (path: string) =>
      onceAsked(path, () => {
        cluster.head.kill('control-plane');
        kills.push(path);
      });
    const gates = [killAt(CHALLENGED), killAt(FINALISED)];
    pebble.takeRequests();
    pebble.answer(async (request) => {
      for (const gate of gates) await gate(request);
      return undefined;
    });
    await deploy('shop', hostname);
    await certifiedOn(NODES, hostname);
    expect(kills).toEqual([CHALLENGED, FINALISED]);
    expect(pebble.takeRequests().filter((line) => line === `POST ${ORDERED}`)).toHaveLength(1);
    await eventually(
      async () =>
        expect(await viewOf(hostname)).toMatchObject({ state: 'valid', issuing: { failedAttempts: 0 } }),
      PATIENCE,
    );
    await assertNothingLeft();
  },
);

clusterScenario(
  'a certificate is issued although the node that answers for it is lost on the way, and that node has it when it is back',
  () => cluster,
  async () => {
    const hostname = 'late.example.org';
    await point(hostname, 'node-2');
    pebble.answer(onceAsked(CHALLENGED, () => cluster.node('node-2').powerOff()));
    await deploy('late', hostname);
    await eventually(async () => {
      const { issuing } = await viewOf(hostname);
      expect(issuing).toMatchObject({ failedAttempts: 1, lastError: { kind: 'pointing' } });
    }, PATIENCE);
    await untilHealth(cluster, 'node-2', 'lost');
    // As a DNS of several nodes does, or whoever keeps it.
    await point(hostname, 'node-3');
    await retry(hostname);
    const serial = await certifiedOn(['node-1', 'node-3'], hostname);
    await cluster.node('node-2').powerOn();
    expect(await certifiedOn(NODES, hostname)).toBe(serial);
    await assertNothingLeft();
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  'a certificate that is revoked is replaced on every node, and no handshake fails over it',
  () => cluster,
  async () => {
    const hostname = 'shop.example.org';
    const before = await certifiedOn(NODES, hostname);
    const load = startHandshakes(
      new Map(NODES.map((node) => [node, { host: cluster.node(node).address, hostname, root }])),
    );
    let failures: readonly string[] = [];
    try {
      const shown = readFileSync(
        join(cluster.head.product.dataDir, 'ingress', 'certificates', 'exact', hostname),
        'utf8',
      );
      await pebble.revoke(shown, /-----BEGIN PRIVATE KEY-----[^]*/.exec(shown)?.[0] ?? '');
      // It asks the authority by itself as well, as often as that says.
      await retry(hostname);
      await eventually(async () => expect(await certifiedOn(NODES, hostname)).not.toBe(before), PATIENCE);
      const after = await certifiedOn(NODES, hostname);
      await eventually(() => {
        for (const certificates of load.seen().values())
          expect(certificates.map(({ serial }) => serial)).toEqual([before, after]);
      });
    } finally {
      failures = await load.stop();
    }
    expect(failures).toEqual([]);
    await assertNothingLeft();
  },
);

clusterScenario(
  'a certificate that somebody brought and that ends is shown as that, with why there is no other yet, and is replaced',
  () => cluster,
  async ({ instance }) => {
    const hostname = 'own.example.org';
    await point(hostname, 'node-1');
    let isRefusing = true;
    pebble.answer(({ path }) =>
      isRefusing && path === ORDERED ? { status: 503, body: 'closed for the night' } : undefined,
    );
    const brought = people.issue({
      commonName: hostname,
      organisation: 'People',
      alternativeNames: [`DNS:${hostname}`],
      validForMs: 15_000,
    });
    const body = { certificate: brought.certificatePem, privateKey: brought.keyPem };
    const { status, text } = await instance.api('PUT', `/v1/certificates/${hostname}`, { body });
    expect([status, text]).toMatchObject([200, expect.any(String)]);
    await deploy('own', hostname);
    await eventually(async () => {
      const answers = await Promise.all(NODES.map((node) => ask(node, hostname, people.certificatePem)));
      for (const answer of answers) expect(answer.text).toContain('web v1');
    });
    expect(await viewOf(hostname)).toMatchObject({ state: 'expiring', source: 'uploaded' });
    await eventually(
      async () =>
        expect(await viewOf(hostname)).toMatchObject({
          state: 'expired',
          message: expect.stringMatching(/^Expired less than an hour ago\. .*answered 503/) as string,
          issuing: { state: 'failing', lastError: { kind: 'authority' } },
        }),
      PATIENCE,
    );
    await expect(ask('node-2', hostname, people.certificatePem)).rejects.toThrow('certificate has expired');
    isRefusing = false;
    await retry(hostname);
    await certifiedOn(NODES, hostname);
    await eventually(
      async () => expect(await viewOf(hostname)).toMatchObject({ state: 'valid', source: 'acme' }),
      PATIENCE,
    );
    const told = await instance.api('GET', '/v1/events');
    for (const what of ['failed', 'expired', 'issued']) expect(told.text).toContain(`certificate.${what}`);
    await assertClusterConverged(cluster);
  },
);
