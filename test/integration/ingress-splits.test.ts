/**
 * Splits of requests between releases, with a real Caddy and a real Consul: shares hold whatever the releases do, a
 * switch costs no request, and what is under judgement is counted.
 */

import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { hashSync } from 'bcryptjs';
import pino from 'pino';

import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { readMembers } from '../../adapters/consul/watch-members';
import { openJudgedLog } from '../../adapters/ingress/judged-log';
import { createMaintenanceWriter } from '../../api/maintenance';
import {
  hostnameKvKey,
  microserviceKvKey,
  replicaKvKey,
  requestCountsKvKey,
  routesKvKey,
  trafficKvKey,
} from '../../contracts/kv';
import { countsOf, judgeRelease, type RequestCounts } from '../../domain/judgement';
import type { IngressState } from '../../domain/model';
import type { TrafficShare, TrafficSplit } from '../../domain/traffic';
import { caddySettings } from '../../workers/ingress-files';
import {
  CONFIRM_CONFIGURATION_WITHIN_MS,
  createIngressConfirmation,
} from '../../workers/ingress-confirmation';
import type { IngressKeeper } from '../../workers/node/ingress-keeper';
import { createRequestCounter, type RequestCounter } from '../../workers/node/request-counts';
import { openListeningSockets, type ListeningSockets } from '../../workers/up/listening-sockets';
import { ingressPortNeeds } from '../../workers/up/ports';
import { NOW_MS, buildReplica } from '../support/builders';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest } from '../support/http';
import { countLoads, createKeeper, ingressConfigOf, spawnCaddy } from '../support/ingress-keeper';
import { startLoad } from '../support/load';
import { eventually } from '../support/wait';

const logger = pino({ level: 'silent' });

let consul: RunningConsul;
let dataDir: string;
let httpPort: number;
let sockets: ListeningSockets | undefined;
let caddy: ChildProcess | undefined;
let keeper: IngressKeeper | undefined;
let counter: RequestCounter | undefined;
let trouble: string | undefined = 'not started';
const loads = countLoads();
let stage = 0;
const backends: Server[] = [];

const startBackend = async (says: string, options: { afterMs?: number; status?: number } = {}) => {
  const server = createServer((_, response) => {
    setTimeout(() => {
      response.statusCode = options.status ?? 200;
      response.end(says);
    }, options.afterMs ?? 0);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  backends.push(server);
  return (server.address() as AddressInfo).port;
};

const configOf = () => ingressConfigOf(dataDir, httpPort);

const startKeeper = (): void => {
  const { directory } = caddySettings(configOf());
  counter = createRequestCounter({
    nodeId: consul.nodeId,
    log: openJudgedLog(directory),
    documents: consul.documents,
    logger,
  });
  keeper = createKeeper({
    config: configOf(),
    nodeId: consul.nodeId,
    consul: consul.client,
    documents: consul.documents,
    throughAdmin: loads.through,
    onSplits: counter.follow,
    onState: (reason) => (trouble = reason),
    logger,
  });
  keeper.start();
};

const publish = async (name: string, release: number, port: number, hostnames = [`${name}.localhost`]) => {
  const replica = buildReplica(`${name}-v${release}-${port}`, consul.nodeId, {
    name,
    release,
    ports: [
      {
        container: 'main',
        port: 80,
        protocol: 'tcp',
        address: '127.0.0.1',
        hostPort: port,
        serviceId: `${name}-${port}`,
        hostnames,
      },
    ],
  });
  await consul.documents.put(replicaKvKey(replica, replica.id), replica);
};

const claim = (hostname: string, name: string) =>
  consul.documents.put(hostnameKvKey(hostname), { project: 'default', name });

const split = async (
  name: string,
  shares: readonly TrafficShare[],
  isJudged = false,
): Promise<TrafficSplit> => {
  stage += 1;
  const made: TrafficSplit = {
    project: 'default',
    name,
    operation: `deploy.default.${name}.1`,
    release: 2,
    stage,
    isJudged,
    shares,
    writtenAtMs: Date.now(),
  };
  const { index } = await consul.documents.put(trafficKvKey(made), made);
  const confirmed = createIngressConfirmation(
    { kv: createKvStore(consul.client), readMembers: () => readMembers(consul.client), logger },
    ({ trafficIndex = 0 }) => trafficIndex,
  );
  // A new configuration for more lanes may take longer than anybody waits.
  await eventually(async () => expect(await confirmed(index, new AbortController().signal)).toEqual([]));
  return made;
};

const ask = async (hostname: string) =>
  (await httpRequest(`http://127.0.0.1:${httpPort}/`, { headers: { host: hostname } })).text;

const answers = async (hostname: string, text: string): Promise<void> => {
  await eventually(async () => expect(await ask(hostname)).toBe(text), {
    describe: `${hostname} answers ${text}`,
  });
  await loads.settled();
};

/** Who answers so many requests, of clients that ask at the same time. */
const tally = async (hostname: string, requests: number, clients = 16): Promise<Map<string, number>> => {
  const said = new Map<string, number>();
  let left = requests;
  const client = async () => {
    for (; left > 0;) {
      left -= 1;
      const text = await ask(hostname);
      said.set(text, (said.get(text) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return said;
};

beforeAll(async () => {
  consul = await startConsul();
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-splits-'));
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await once(probe, 'listening');
  httpPort = (probe.address() as AddressInfo).port;
  probe.close();
  sockets = await openListeningSockets(ingressPortNeeds(configOf()));
  caddy = spawnCaddy(configOf(), sockets);
  startKeeper();
  await eventually(() => expect(trouble).toBeUndefined());
}, 60_000);

afterAll(async () => {
  keeper?.stop();
  counter?.stop();
  for (const server of backends) server.close();
  if (caddy !== undefined) {
    const gone = once(caddy, 'exit');
    caddy.kill('SIGKILL');
    await gone;
  }
  sockets?.close();
  await consul?.close();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

test('a release gets its share, also when it answers much faster than the other', async () => {
  const [old, fresh] = [await startBackend('v1', { afterMs: 20 }), await startBackend('v2')];
  await claim('shared.localhost', 'shared');
  await publish('shared', 1, old);
  await answers('shared.localhost', 'v1');
  await split('shared', [
    { release: 1, weight: 100 },
    { release: 2, weight: 0 },
  ]);
  await publish('shared', 2, fresh);
  const before = loads.count();
  expect([...(await tally('shared.localhost', 300)).keys()]).toEqual(['v1']);
  for (const weight of [5, 25, 60]) {
    await split('shared', [
      { release: 1, weight: 100 - weight },
      { release: 2, weight },
    ]);
    const share = ((await tally('shared.localhost', 1_500)).get('v2') ?? 0) / 1_500;
    // Four standard deviations.
    const tolerance = 4 * Math.sqrt(((weight / 100) * (1 - weight / 100)) / 1_500) + 1 / 120;
    expect(Math.abs(share - weight / 100)).toBeLessThan(tolerance);
  }
  expect(loads.count()).toBe(before);
}, 60_000);

test('a switch there and back under load costs no request, and holds once it is confirmed', async () => {
  const [old, fresh] = [await startBackend('v1'), await startBackend('v2')];
  await claim('switched.localhost', 'switched');
  await split('switched', [{ release: 1, weight: 100 }]);
  await publish('switched', 1, old);
  await publish('switched', 2, fresh);
  await answers('switched.localhost', 'v1');
  const address = `127.0.0.1:${httpPort}`;
  const load = startLoad({ address, hostname: 'switched.localhost', clients: 8, pauseMs: 10 });
  try {
    for (let turn = 0; turn < 20; turn += 1) {
      const release = turn % 2 === 0 ? 2 : 1;
      const switching = split('switched', [{ release, weight: 100 }], turn % 3 === 0);
      // It is one moment: who asks one after the other is never led back.
      while ((await ask('switched.localhost')) !== `v${release}`) continue;
      for (let request = 0; request < 20; request += 1) {
        expect(await ask('switched.localhost')).toBe(`v${release}`);
      }
      await switching;
      for (let request = 0; request < 5; request += 1) {
        expect(await ask('switched.localhost')).toBe(`v${release}`);
      }
    }
  } finally {
    await load.stop();
  }
  const { failures, answered } = load.report();
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(100);
});

test('a split that has gone, or that would leave nobody, is not followed', async () => {
  const [old, fresh] = [await startBackend('v1'), await startBackend('v2')];
  await claim('ended.localhost', 'ended');
  await publish('ended', 1, old);
  await publish('ended', 2, fresh);
  const made = await split('ended', [{ release: 2, weight: 100 }]);
  await answers('ended.localhost', 'v2');
  expect((await tally('ended.localhost', 40, 4)).size).toBe(1);
  await split('ended', [{ release: 3, weight: 100 }]);
  expect((await tally('ended.localhost', 100, 4)).size).toBe(2);
  await split('ended', [{ release: 1, weight: 100 }]);
  expect((await tally('ended.localhost', 40, 4)).size).toBe(1);
  await consul.documents.remove(trafficKvKey(made));
  await eventually(async () => expect((await tally('ended.localhost', 40, 4)).size).toBe(2));
});

test('more hostnames than a lane has, and more splits than there are lanes, all get their shares', async () => {
  const [old, fresh] = [await startBackend('v1'), await startBackend('v2')];
  const hostnames = Array.from({ length: 40 }, (_, index) => `host${index}.localhost`);
  await Promise.all(hostnames.map((hostname) => claim(hostname, 'hosts')));
  await publish('hosts', 1, old, hostnames);
  await publish('hosts', 2, fresh, hostnames);
  await split('hosts', [
    { release: 1, weight: 0 },
    { release: 2, weight: 100 },
  ]);
  await split('hosts', [
    { release: 1, weight: 50 },
    { release: 2, weight: 50 },
  ]);
  for (const hostname of [hostnames[0] ?? '', hostnames[39] ?? '']) {
    const said = await tally(hostname, 200);
    expect(said.get('v1')).toBeGreaterThan(50);
    expect(said.get('v2')).toBeGreaterThan(50);
  }
}, 60_000);

const readCounts = async (): Promise<readonly RequestCounts[]> => {
  const { document } = await createKvStore(consul.client).get(requestCountsKvKey(consul.nodeId));
  return document === undefined ? [] : [JSON.parse(document.text) as RequestCounts];
};

test('requests are counted while a release is under judgement, and only then', async () => {
  const [old, fresh] = [await startBackend('v1'), await startBackend('v2', { status: 500 })];
  await claim('judged.localhost', 'judged');
  await publish('judged', 1, old);
  await publish('judged', 2, fresh);
  await split('judged', [{ release: 1, weight: 100 }]);
  await tally('judged.localhost', 50);
  const made = await split(
    'judged',
    [
      { release: 1, weight: 80 },
      { release: 2, weight: 20 },
    ],
    true,
  );
  const said = await tally('judged.localhost', 400);
  await eventually(
    async () => {
      const counts = await readCounts();
      const [before, now] = [countsOf(counts, made, 1), countsOf(counts, made, 2)];
      expect([before.requests, before.errors]).toEqual([said.get('v1'), 0]);
      expect([now.requests, now.errors]).toEqual([said.get('v2'), said.get('v2')]);
      expect(now.latencies.reduce((sum, count) => sum + count, 0)).toBe(now.requests);
      const judge = { maxErrorPercent: 1, maxLatencyFactor: 0, minRequests: 5 };
      expect(judgeRelease(judge, now, before)).toEqual({
        kind: 'worse',
        message: `v2 answered 100% of ${now.requests} requests with errors, v1 0% of ${before.requests}`,
      });
    },
    { describe: 'the counts are published' },
  );
  await consul.documents.remove(trafficKvKey(made));
  await eventually(async () => expect(await readCounts()).toEqual([]));
});

test('requests of a wildcard are counted, also where others have names below it, which are not', async () => {
  const [old, fresh] = [await startBackend('v1'), await startBackend('v2', { status: 500 })];
  await claim('*.tenants.localhost', 'tenants');
  await claim('own.tenants.localhost', 'stranger');
  await publish('tenants', 1, old, ['*.tenants.localhost']);
  await publish('tenants', 2, fresh, ['*.tenants.localhost']);
  await publish('stranger', 1, await startBackend('stranger'), ['own.tenants.localhost']);
  await answers('own.tenants.localhost', 'stranger');
  const shares = [
    { release: 1, weight: 50 },
    { release: 2, weight: 50 },
  ];
  const made = await split('tenants', shares, true);
  const said = await tally('any.tenants.localhost', 100);
  expect([...(await tally('own.tenants.localhost', 30)).keys()]).toEqual(['stranger']);
  expect([said.get('v1'), said.get('v2')].every((count) => (count ?? 0) > 20)).toBe(true);
  await eventually(async () => {
    const counts = await readCounts();
    const [before, now] = [countsOf(counts, made, 1), countsOf(counts, made, 2)];
    expect([before.requests, now.requests]).toEqual([said.get('v1'), said.get('v2')]);
    expect(now.errors).toBe(said.get('v2'));
  });
  await consul.documents.remove(trafficKvKey(made));
});

test('requests of routes with options are counted too, by who answers, and those that nobody gets are not', async () => {
  const [old, fresh] = [await startBackend('v1'), await startBackend('v2', { status: 500 })];
  const hostname = 'options.localhost';
  const key = { project: 'default', name: 'options' };
  const releases = [1, 2].map((number) => ({
    number,
    createdAtMs: NOW_MS,
    routes: [
      { container: 'main', port: 80, hostnames: [hostname], path: '/api', stripPath: true },
      {
        container: 'main',
        port: 80,
        hostnames: [hostname],
        path: '/admin',
        basicAuth: { anna: hashSync('correct horse', 4) },
      },
    ],
  }));
  await consul.documents.put(routesKvKey(key), { ...key, releases });
  for (const path of ['', '/api', '/admin']) await claim(`${hostname}${path}`, 'options');
  await publish('options', 1, old, [hostname]);
  await publish('options', 2, fresh, [hostname]);
  const get = async (path: string) =>
    await httpRequest(`http://127.0.0.1:${httpPort}${path}`, { headers: { host: hostname } });
  await eventually(async () => expect([(await get('/admin')).status, trouble]).toEqual([401, undefined]));
  await eventually(async () => expect(['v1', 'v2']).toContain((await get('/api/x')).text));

  const made = await split(
    'options',
    [
      { release: 1, weight: 50 },
      { release: 2, weight: 50 },
    ],
    true,
  );
  const said: Record<string, number> = {};
  for (let request = 0; request < 60; request += 1) {
    const { text, status } = await get(request % 3 === 0 ? '/' : request % 3 === 1 ? '/api/x' : '/admin');
    if (status !== 401) said[text] = (said[text] ?? 0) + 1;
  }
  expect((said['v1'] ?? 0) + (said['v2'] ?? 0)).toBe(40);
  expect(Math.min(said['v1'] ?? 0, said['v2'] ?? 0)).toBeGreaterThan(0);
  await eventually(
    async () => {
      const counts = await readCounts();
      const [before, now] = [countsOf(counts, made, 1), countsOf(counts, made, 2)];
      expect([before.requests, before.errors]).toEqual([said['v1'], 0]);
      expect([now.requests, now.errors]).toEqual([said['v2'], said['v2']]);
    },
    { describe: 'the counts are published' },
  );
  await consul.documents.remove(trafficKvKey(made));
  await eventually(async () => expect(await readCounts()).toEqual([]));
});

test('routes that need a new configuration answer when they are confirmed', async () => {
  const confirmedBy = (indexOf: (state: IngressState) => number) =>
    createIngressConfirmation(
      { kv: createKvStore(consul.client), readMembers: () => readMembers(consul.client), logger },
      indexOf,
      CONFIRM_CONFIGURATION_WITHIN_MS,
    );
  const hostnamesConfirmed = confirmedBy(({ hostnamesIndex = 0 }) => hostnamesIndex);
  const routesConfirmed = confirmedBy(({ routesIndex = 0 }) => routesIndex);
  const { signal } = new AbortController();
  const routes = [
    { hostnames: ['limited.localhost'], maxBodyBytes: 1_000 },
    { hostnames: ['paths.localhost'], path: '/api' },
    { hostnames: ['*.wild.localhost'] },
    { hostnames: ['new.localhost'], redirectFrom: ['old.localhost'] },
  ];
  for (const [turn, route] of routes.entries()) {
    const name = `routed${turn}`;
    const key = { project: 'default', name };
    const [hostname = ''] = route.hostnames;
    const asked = route.redirectFrom?.[0] ?? hostname.replace('*', 'any');
    const port = await startBackend(name);
    const before = loads.count();
    const claims = [...(route.redirectFrom ?? []), `${hostname}${route.path ?? ''}`];
    const claimed = await Promise.all(claims.map((one) => claim(one, name)));
    const releases = [
      { number: 1, createdAtMs: NOW_MS, routes: [{ ...route, container: 'main', port: 80 }] },
    ];
    const { index } = await consul.documents.put(routesKvKey(key), { ...key, releases });
    // Of plain ones, which need no configuration, replicas tell themselves.
    await publish(name, 1, port, hostname.startsWith('*') ? [hostname] : []);
    expect(await hostnamesConfirmed(Math.max(...claimed.map((one) => one.index)), signal)).toEqual([]);
    expect(await routesConfirmed(index, signal)).toEqual([]);
    expect(loads.count()).toBeGreaterThan(before);
    const { status } = await httpRequest(`http://127.0.0.1:${httpPort}${route.path ?? '/'}`, {
      headers: { host: asked },
    });
    // A replica may be heard of a moment after its route, which is there by then.
    expect(status).not.toBe(404);
  }
}, 60_000);

test('maintenance is in force, and over, when it is confirmed', async () => {
  await claim('working.localhost', 'working');
  await publish('working', 1, await startBackend('at work'));
  await answers('working.localhost', 'at work');
  const key = { project: 'default', name: 'working' };
  await consul.documents.put(microserviceKvKey(key), {});
  const store = createKeyValueStore({ address: consul.server.address }, () => undefined);
  const writer = createMaintenanceWriter({
    store,
    confirmed: createIngressConfirmation(
      { kv: createKvStore(consul.client), readMembers: () => readMembers(consul.client), logger },
      ({ maintenanceIndex = 0 }) => maintenanceIndex,
      CONFIRM_CONFIGURATION_WITHIN_MS,
    ),
    randomSuffix: () => randomBytes(6).toString('hex'),
    nowMs: Date.now,
  });
  const { signal } = new AbortController();
  const maintenance = { text: 'later', retryAfterSeconds: 1, allow: [] };
  try {
    for (let turn = 0; turn < 3; turn += 1) {
      expect(await writer.set(key, maintenance, signal)).toEqual([]);
      expect(await ask('working.localhost')).toContain('later');
      expect(await writer.set(key, undefined, signal)).toEqual([]);
      expect(await ask('working.localhost')).toBe('at work');
    }
    // A node that does not go by it is named.
    keeper?.stop();
    expect(await writer.set(key, maintenance, signal)).toEqual([consul.nodeId]);
  } finally {
    store.close();
  }
}, 60_000);
