/** What an idle node costs Consul: its followers' blocking queries while others write, with folders and without. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { createConsulClient, kvPath, type ConsulClient } from '../../adapters/consul/consul-client';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { openCertificateFiles } from '../../adapters/ingress/certificate-files';
import { FOLDERS_KV_KEY, KV_PREFIX, hostnameKvKey, operationKvKey } from '../../contracts/kv';
import { caddySettings } from '../../workers/ingress-files';
import { keepKvFolders } from '../../workers/kv-folders';
import { createCertificateKeeper } from '../../workers/node/certificate-keeper';
import { createConsulServer, firstMember, type ConsulServer } from '../support/consul';
import { createKeeper, ingressConfigOf } from '../support/ingress-keeper';
import { eventually } from '../support/wait';

jest.setTimeout(120_000);

const WRITES = 200;
const logger = pino({ level: 'silent' });
const directory = mkdtempSync(join(tmpdir(), 'containeros-folders-'));
let server: ConsulServer;
let consul: ConsulClient;

beforeAll(async () => {
  server = await createConsulServer('node_name = "node-1"');
  server.start();
  consul = createConsulClient({ address: server.address });
  await firstMember(consul);
});
afterAll(async () => {
  consul.close();
  await server.kill();
  server.dispose();
  rmSync(directory, { recursive: true, force: true });
});

/** @returns the path of each query that a node has in Consul as long as it follows, in the order they are made */
const followAsNode = async (): Promise<{ readonly queries: readonly string[]; stop(): void }> => {
  const queries: string[] = [];
  const counting: ConsulClient = {
    ...consul,
    request: (call) => {
      if (call.path.startsWith('/kv/') && call.wait !== undefined) queries.push(call.path);
      return consul.request(call);
    },
  };
  const config = ingressConfigOf(directory, 1);
  const states: (string | undefined)[] = [];
  const ingress = createKeeper({
    config,
    nodeId: 'node-1',
    consul: counting,
    documents: { put: async () => ({ index: 1 }) },
    throughAdmin: () => ({ load: async () => undefined }),
    onState: (reason) => states.push(reason),
    logger,
  });
  const certificates = createCertificateKeeper({
    kv: createKvStore(counting),
    files: openCertificateFiles(caddySettings(config).directory),
    openSealer: () => Promise.reject(new Error('there is nothing to open')),
    nowMs: Date.now,
    logger,
  });
  ingress.start();
  certificates.start();
  const followed = ['hostnames', 'routes', 'maintenance', 'replicas', 'traffic', 'certificates'] as const;
  await eventually(() => {
    expect(states).toEqual([undefined]);
    for (const kind of [...followed, 'httpChallenges'] as const)
      expect(queries).toContain(kvPath(KV_PREFIX[kind]));
  });
  return {
    queries,
    stop: () => {
      ingress.stop();
      certificates.stop();
    },
  };
};

/** Operations of others, one after another; they are followed by no node. */
const writeOthers = async (): Promise<void> => {
  for (let number = 0; number < WRITES; number += 1) {
    const key = operationKvKey({ project: 'default', name: 'web' }, `op-${number}`);
    await consul.request({ method: 'PUT', path: kvPath(key), body: { number } });
    // As in a cluster where something happens all the time.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const queriesWhileOthersWrite = async (): Promise<number> => {
  const node = await followAsNode();
  try {
    const before = node.queries.length;
    await writeOthers();
    return node.queries.length - before;
  } finally {
    node.stop();
  }
};

test('a node asks Consul for nothing anew while others write, as each prefix has a folder', async () => {
  const key = { project: 'default', name: 'web' };
  await consul.request({ method: 'PUT', path: kvPath(hostnameKvKey('a.example.com')), body: key });
  const without = await queriesWhileOthersWrite();

  const store = createKeyValueStore({ address: server.address }, fail);
  const kv = createKvStore(consul);
  const folders = keepKvFolders({ kv, store, logger });
  try {
    await eventually(async () => expect((await kv.get(FOLDERS_KV_KEY)).document).toBeDefined());
    const withFolders = await queriesWhileOthersWrite();
    // Each prefix with nothing under it is asked for some six times a second.
    expect(without).toBeGreaterThan(20);
    expect(withFolders).toBeLessThanOrEqual(2);

    // They are no documents.
    expect((await kv.list(KV_PREFIX.traffic)).documents).toEqual([]);
    expect((await store.list(KV_PREFIX.hostnames)).map(({ value }) => value)).toEqual([key]);

    // A Consul that has lost its data gets them again.
    await server.kill();
    server.forgetEverything();
    server.start();
    await eventually(async () => expect((await kv.get(FOLDERS_KV_KEY)).document).toBeDefined(), {
      timeoutMs: 60_000,
    });
  } finally {
    folders.stop();
    store.close();
  }
});

function fail(message: string): never {
  throw new Error(message);
}
