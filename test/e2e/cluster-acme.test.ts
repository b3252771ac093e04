// A public hostname on a cluster of two real nodes, with a real ACME server (Pebble) for the internet: it gets a
// certificate by itself, whichever node the authority asks, every node shows it, and it is renewed in time.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { startCluster, type Cluster } from '../support/cluster/cluster';
import { startPebble, type Pebble } from '../support/pebble';
import { apply, removeMicroservice, webSpec } from '../support/product';
import { askStrictly, startHandshakes } from '../support/strict-https';
import { eventually } from '../support/wait';
import { useWorld } from '../support/world';

const TIMEOUT_MS = 240_000;
const PATIENCE = { timeoutMs: 90_000, intervalMs: 250 };
const HOSTNAME = 'shop.example.org';
const NODES = ['node-1', 'node-2'];
/** Of certificates: two thirds are soon over, and the last third is enough for a renewal on a busy machine. */
const LIFETIME_SECONDS = 40;

let folder: string;
let pebble: Pebble;
let cluster: Cluster;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-acme-'));
  const world = await useWorld();
  pebble = await startPebble({
    host: world.ownerAddress,
    httpPort: 80,
    validitySeconds: LIFETIME_SECONDS,
  });
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, pebble.caPem);
  cluster = await startCluster({
    nodes: 2,
    headFlags: ['--acme-directory', pebble.directory, '--acme-ca-file', caFile],
    env: { CONTAINEROS_ACME_RESOLVER: pebble.resolver },
  });
}, 300_000);

afterAll(async () => {
  await cluster?.dispose();
  await pebble?.close();
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

const statusOf = async (): Promise<Readonly<Record<string, unknown>>> => {
  const { text } = await cluster.instance.askConsul(`/v1/kv/containeros/certificate-status/${HOSTNAME}?raw`);
  return JSON.parse(text) as Readonly<Record<string, unknown>>;
};

test(
  'a hostname that leads nowhere says so; when it leads to a node it is certified, and every node shows it',
  async () => {
    const { instance } = cluster;
    const spec = webSpec('shop', await cluster.web(), {
      scale: 1,
      container: { ports: [], httpPorts: { '80': HOSTNAME } },
    });
    // Where nobody listens.
    await pebble.dns('add-a', {
      host: `${HOSTNAME}.`,
      addresses: [cluster.head.address.replace(/\d+$/, '250')],
    });
    await apply(instance, spec);
    await eventually(
      async () => expect(await statusOf()).toMatchObject({ state: 'failed', failures: 1 }),
      PATIENCE,
    );
    expect((await statusOf())['message']).toMatch(
      /^shop\.example\.org does not lead to this cluster on port 80/,
    );

    const lacking = await instance.api('GET', `/v1/certificates/${HOSTNAME}`);
    expect(lacking.body).toMatchObject({
      state: 'failing',
      hostnames: [],
      issuing: { failedAttempts: 1, lastError: { kind: 'pointing' } },
    });

    await pebble.dns('clear-a', { host: `${HOSTNAME}.` });
    await pebble.dns('add-a', { host: `${HOSTNAME}.`, addresses: [cluster.node('node-2').address] });
    expect((await instance.api('POST', `/v1/certificates/${HOSTNAME}/retry`)).status).toBe(202);
    const root = await pebble.rootPem();
    const serials = await eventually(
      async () => {
        const seen = await Promise.all(
          NODES.map((name) => askStrictly({ host: cluster.node(name).address, hostname: HOSTNAME, root })),
        );
        for (const { text } of seen) expect(text).toContain('web v1');
        return seen.map(({ serial }) => serial);
      },
      { ...PATIENCE, timeoutMs: 150_000, describe: 'both nodes answer over HTTPS' },
    );
    expect(new Set(serials).size).toBe(1);
    // It is kept, and served, a moment before that is told.
    await eventually(
      async () => expect(await statusOf()).toMatchObject({ state: 'issued', failures: 0 }),
      PATIENCE,
    );
    const { body } = await instance.api('GET', `/v1/certificates/${HOSTNAME}`);
    expect(body).toMatchObject({ source: 'acme', directory: pebble.directory, state: 'valid' });
    expect(body).toMatchObject({ issuing: { state: 'issued', failedAttempts: 0 } });
    const events = await instance.api('GET', '/v1/events');
    for (const type of ['certificate.failed', 'certificate.issued']) expect(events.text).toContain(type);
    const keys = await instance.askConsul('/v1/kv/containeros/?recurse=true&keys');
    expect(keys.text).not.toMatch(/http-challenges\/[^"]/); // beside the folder
    expect(keys.text).not.toMatch(/acme-orders\/[^"]/);
  },
  TIMEOUT_MS,
);

test(
  'a certificate is renewed when two thirds of its lifetime are over, on every node, and no handshake fails over it',
  async () => {
    const root = await pebble.rootPem();
    const load = startHandshakes(
      new Map(NODES.map((name) => [name, { host: cluster.node(name).address, hostname: HOSTNAME, root }])),
    );
    let failures: readonly string[] = [];
    try {
      await eventually(
        () => {
          for (const shown of load.seen().values()) expect(shown).toHaveLength(2);
        },
        { ...PATIENCE, describe: 'both nodes have shown a new certificate' },
      );
    } finally {
      failures = await load.stop();
    }
    expect(failures).toEqual([]);
    expect(load.answered()).toBeGreaterThan(200);
    const [one = [], other = []] = [...load.seen().values()];
    expect(other.map(({ serial }) => serial)).toEqual(one.map(({ serial }) => serial));
    const [before, after] = one;
    if (before === undefined || after === undefined) throw new Error('none was shown');
    // It is counted in whole seconds, and may be a second old when it comes.
    const dueMs = before.notBeforeMs + (before.notAfterMs - before.notBeforeMs) * (2 / 3);
    expect(after.notBeforeMs).toBeGreaterThanOrEqual(dueMs - 1_000);
    const sinceMs = [after, ...other.slice(1)].map((shown) => shown.sinceMs);
    expect(Math.max(...sinceMs)).toBeLessThan(before.notAfterMs);
    expect(Math.max(...sinceMs) - Math.min(...sinceMs)).toBeLessThan(3_000);
  },
  TIMEOUT_MS,
);

test(
  'when its microservice is gone, nothing is asked for it any more',
  async () => {
    await removeMicroservice(cluster.instance, 'shop');
    await eventually(async () => {
      const { status } = await cluster.instance.askConsul(
        `/v1/kv/containeros/certificate-status/${HOSTNAME}?raw`,
      );
      expect(status).toBe(404);
    }, PATIENCE);
  },
  TIMEOUT_MS,
);
