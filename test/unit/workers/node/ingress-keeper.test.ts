/** What the keeper of the ingress tells those who wait for it, with a Consul and a Caddy that say what the test wants. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { openLaneFiles } from '../../../../adapters/ingress/lane-files';
import { openPlaceFiles } from '../../../../adapters/ingress/place-files';
import type { KvDocument, KvWatchHandlers } from '../../../../contracts/kv-store';
import {
  KV_PREFIX,
  hostnameKvKey,
  maintenanceKvKey,
  routesKvKey,
  trafficKvKey,
} from '../../../../contracts/kv';
import type { TrafficSplit } from '../../../../domain/traffic';
import { createIngressKeeper, type IngressKeeper } from '../../../../workers/node/ingress-keeper';
import type { PublicPorts } from '../../../../workers/node/public-ports';
import { eventually } from '../../../support/wait';

const SPLIT: TrafficSplit = {
  project: 'default',
  name: 'web',
  operation: 'op-1',
  release: 2,
  stage: 1,
  isJudged: false,
  shares: [{ release: 1, weight: 100 }],
  writtenAtMs: 0,
};

const keepers: IngressKeeper[] = [];
const directory = mkdtempSync(join(tmpdir(), 'containeros-keeper-'));
afterEach(() => {
  for (const keeper of keepers.splice(0)) keeper.stop();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const documentOf = (key: string, value: unknown, index: number): KvDocument => ({
  key,
  text: JSON.stringify(value),
  index,
});

const unused = () => {
  throw new Error('nobody asked for this');
};

const startKeeper = (publicPorts?: PublicPorts) => {
  const watches = new Map<string, KvWatchHandlers>();
  const put: unknown[] = [];
  const states: (string | undefined)[] = [];
  let isFollowingMembers = false;
  const keeper = createIngressKeeper({
    nodeId: 'node-1',
    settings: { directory, listen: '127.0.0.1:1', port: 1 },
    configFile: join(directory, 'caddy.json'),
    kv: {
      watch: (prefix, handlers) => {
        watches.set(prefix, handlers);
        return { refresh: unused, catchUp: unused, close: () => undefined };
      },
      get: unused,
      list: unused,
    },
    watchMembers: (handlers) => {
      isFollowingMembers = true;
      handlers.changed(new Map([['node-1', true]]));
      return { close: () => undefined };
    },
    documents: {
      put: async (_key, value) => {
        put.push(value);
        return { index: 1 };
      },
    },
    acceptedConnections: () => undefined,
    openHandoverEnd: async () => ({ close: () => undefined }),
    admin: { load: async () => undefined },
    files: openPlaceFiles(directory),
    laneFiles: openLaneFiles(directory),
    ...(publicPorts === undefined ? {} : { publicPorts }),
    endConnections: () => Promise.resolve(),
    onState: (reason) => states.push(reason),
    logger: pino({ level: 'silent' }),
  });
  keepers.push(keeper);
  keeper.start();
  const told = (prefix: string, index: number, changed: readonly KvDocument[] = []) =>
    watches.get(prefix)?.changed({ index, changed, removed: [] });
  return { watches, put, states, told, isFollowingMembers: () => isFollowingMembers };
};

test('what changes often is followed once there is a hostname; splits, maintenance and routes are confirmed, other writes to nobody', async () => {
  const { watches, put, states, told, isFollowingMembers } = startKeeper();
  told(KV_PREFIX.routes, 1);
  told(KV_PREFIX.maintenance, 1);
  expect([...watches.keys()].sort()).toEqual([KV_PREFIX.hostnames, KV_PREFIX.maintenance, KV_PREFIX.routes]);
  expect(isFollowingMembers()).toBe(false);
  told(KV_PREFIX.hostnames, 2, [
    documentOf(hostnameKvKey('a.example.com'), { project: 'default', name: 'web' }, 2),
  ]);
  told(KV_PREFIX.replicas, 3);
  told(KV_PREFIX.traffic, 3);
  await eventually(() =>
    expect(put).toEqual([
      { id: 'node-1', index: 3, trafficIndex: 0, maintenanceIndex: 1, hostnamesIndex: 2, routesIndex: 1 },
    ]),
  );
  await eventually(() => expect(states).toHaveLength(1));
  // Consul answers for a prefix with nothing under it with every write, also that of the confirmation.
  told(KV_PREFIX.traffic, 4);
  told(KV_PREFIX.traffic, 5, [documentOf(trafficKvKey(SPLIT), SPLIT, 5)]);
  await eventually(() => expect(put).toHaveLength(2));
  told(KV_PREFIX.traffic, 6);
  told(KV_PREFIX.traffic, 7, [documentOf(trafficKvKey(SPLIT), { ...SPLIT, stage: 2 }, 7)]);
  await eventually(() => expect(put).toHaveLength(3));
  expect(put.slice(1)).toMatchObject([{ trafficIndex: 5 }, { trafficIndex: 7 }]);
  // Told with one that changes nothing, then with one that does: the first is heard of nowhere.
  told(KV_PREFIX.traffic, 8);
  await new Promise((resolve) => setImmediate(resolve));
  expect(put).toHaveLength(3);
  // Maintenance is confirmed when it begins and when it ends.
  const key = maintenanceKvKey(SPLIT);
  const state = { ...SPLIT, text: 'later', retryAfterSeconds: 1, allow: [], setAtMs: 0 };
  told(KV_PREFIX.maintenance, 9);
  told(KV_PREFIX.maintenance, 10, [documentOf(key, state, 10)]);
  await eventually(() => expect(put).toHaveLength(4));
  watches.get(KV_PREFIX.maintenance)?.changed({ index: 11, changed: [], removed: [key] });
  await eventually(() => expect(put).toHaveLength(5));
  expect(put.slice(3)).toMatchObject([{ maintenanceIndex: 10 }, { maintenanceIndex: 11 }]);
  // Routes are confirmed as they come, each with what it is known by.
  told(KV_PREFIX.routes, 12);
  const routes = { project: 'default', name: 'web', releases: [] };
  told(KV_PREFIX.routes, 13, [documentOf(routesKvKey(SPLIT), routes, 13)]);
  await eventually(() => expect(put).toHaveLength(6));
  told(KV_PREFIX.hostnames, 14, [
    documentOf(hostnameKvKey('b.example.com'), { project: 'default', name: 'web' }, 14),
  ]);
  await eventually(() => expect(put).toHaveLength(7));
  expect(put.slice(5)).toMatchObject([
    { hostnamesIndex: 2, routesIndex: 13 },
    { hostnamesIndex: 14, routesIndex: 13 },
  ]);
});

test('a forwarder that does not answer holds up no hostname, and says itself how far it is', async () => {
  const leading: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  const publicPorts: PublicPorts = {
    lead: () => new Promise<void>((resolve, reject) => leading.push({ resolve, reject })),
    stop: () => undefined,
  };
  const { put, states, told } = startKeeper(publicPorts);
  const web = { project: 'default', name: 'web' };
  told(KV_PREFIX.routes, 1);
  told(KV_PREFIX.maintenance, 1);
  told(KV_PREFIX.hostnames, 2, [
    documentOf(hostnameKvKey('a.example.com'), web, 2),
    documentOf(hostnameKvKey('tcp:5432'), web, 2),
  ]);
  told(KV_PREFIX.replicas, 3);
  told(KV_PREFIX.traffic, 3);
  const hostnames = { id: 'node-1', index: 3, trafficIndex: 0, maintenanceIndex: 1, routesIndex: 1 };
  const nothing = { index: 0, trafficIndex: 0, hostnamesIndex: 0 };
  await eventually(() => expect(put).toEqual([{ ...hostnames, hostnamesIndex: 2, publicPorts: nothing }]));
  // It is in its first turn still.
  told(KV_PREFIX.hostnames, 4, [documentOf(hostnameKvKey('b.example.com'), web, 4)]);
  await eventually(() => expect(put).toHaveLength(2));
  expect(put[1]).toEqual({ ...hostnames, hostnamesIndex: 4, publicPorts: nothing });
  expect(states).toEqual([]);
  leading[0]?.reject(new Error('the forwarder of public ports does not answer'));
  await eventually(() => expect(states).toEqual(['the forwarder of public ports does not answer']));
  await eventually(() => expect(leading).toHaveLength(2));
  leading[1]?.resolve();
  await eventually(() => expect(put).toHaveLength(3));
  expect(put[2]).toEqual({
    ...hostnames,
    hostnamesIndex: 4,
    publicPorts: { index: 3, trafficIndex: 0, hostnamesIndex: 4 },
  });
  await eventually(() => expect(states.at(-1)).toBeUndefined());
});
