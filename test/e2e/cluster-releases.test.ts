// Releases that take over on a cluster of three real nodes, while clients of every node's ingress, which try nothing
// twice, ask all the time: whatever happens to nodes, engines and Consul meanwhile, no request is lost over it.
import { setTimeout as delay } from 'node:timers/promises';

import type { OperationView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { restoreCluster, untilHealth } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { httpRequest } from '../support/http';
import { startLoad, type Load } from '../support/load';
import { longRequestServer, openUpload, openWebSocket } from '../support/long-requests';
import { apply, applyAsync, change, removeMicroservice, replicas, webSpec } from '../support/product';
import { countWith, steer, untilRecorded } from '../support/staged-release';
import { eventually } from '../support/wait';

const NODES = ['node-1', 'node-2', 'node-3'] as const;
const HOSTNAME = 'shop.localhost';
const SCALE = 3;
/** Of those who ask a node; together they leave most of the machine to what is tested. */
const CLIENTS = [
  { path: '/', pauseMs: 5 },
  { path: '/', pauseMs: 50 },
  // What is sent on to a replica may not be sent on again.
  { path: '/cgi-bin/env', method: 'POST', pauseMs: 50 },
] as const;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({ nodes: NODES.length });
}, 120_000);
afterEach(() => restoreCluster(cluster), 60_000); // what a failed test has left
afterAll(() => cluster?.dispose(), 60_000);

const ingressOf = (name: string): string => `${cluster.node(name).address}:80`;

const named = (name: string, image: string, more: Record<string, unknown> = {}) => {
  const { container, ...rest } = more;
  return webSpec(name, image, {
    scale: SCALE,
    ...rest,
    container: {
      ports: [],
      httpPorts: { '80': `${name}.localhost` },
      check: { tcp: { port: 80 }, intervalSeconds: 1 },
      stopGraceSeconds: 5,
      ...(container as object | undefined),
    },
  });
};

const shop = async (tag: string, more: Record<string, unknown> = {}) =>
  named('shop', await cluster.web(tag), more);

const answersOn = (name: string, hostname: string, text: string): Promise<void> =>
  eventually(
    async () => {
      const answer = await httpRequest(`http://${ingressOf(name)}/`, { headers: { host: hostname } });
      expect(answer.text).toContain(text);
    },
    { describe: `${name} answers ${hostname} with "${text}"` },
  );

const answersEverywhere = async (text: string, hostname = HOSTNAME): Promise<void> => {
  await Promise.all(NODES.map((name) => answersOn(name, hostname, text)));
};

interface ClusterLoad {
  /** Waits until all clients have been answered again, by whoever leads requests now. */
  goesOn(): Promise<void>;
  /** What went wrong, as `node-1 GET /: …`; of each client on its own. */
  failures(): readonly (readonly string[])[];
  /** How many answers had this text. */
  count(text: string): number;
  stop(): Promise<void>;
}

const startClusterLoad = (names: readonly string[]): ClusterLoad => {
  const all = names.flatMap((name) =>
    CLIENTS.map((client): { readonly who: string; readonly load: Load } => ({
      who: `${name} ${'method' in client ? client.method : 'GET'} ${client.path}`,
      load: startLoad({ address: ingressOf(name), hostname: HOSTNAME, clients: 1, ...client }),
    })),
  );
  return {
    goesOn: async () => {
      const before = all.map(({ load }) => load.report().answered);
      await eventually(() => {
        for (const [index, { who, load }] of all.entries())
          expect([who, load.report().answered > (before[index] ?? 0) + 2]).toEqual([who, true]);
      });
    },
    failures: () => all.map(({ who, load }) => load.report().failures.map((why) => `${who}: ${why}`)),
    count: (text) => all.reduce((sum, { load }) => sum + countWith(load.report().bodies, text), 0),
    stop: async () => {
      await Promise.all(all.map(({ load }) => load.stop()));
    },
  };
};

/** Has steps done while clients ask these nodes, and the cluster converge. @returns what the clients saw */
const underLoad = async (
  names: readonly string[],
  steps: (load: ClusterLoad) => Promise<void>,
): Promise<ClusterLoad> => {
  const load = startClusterLoad(names);
  try {
    await load.goesOn();
    await steps(load);
    await load.goesOn();
  } finally {
    await load.stop();
  }
  return load;
};

const assertNoneLost = (load: ClusterLoad): void => expect(load.failures().flat()).toEqual([]);

const ended = (id: string): Promise<OperationView> =>
  untilRecorded(cluster.instance, id, ({ final }) => final);

const says = (id: string, text: string): Promise<OperationView> =>
  untilRecorded(cluster.instance, id, ({ message }) => message.includes(text));

const nodesOfReplicas = async (): Promise<readonly string[]> =>
  (await replicas(cluster.instance, 'shop')).map(({ node }) => node);

const settle = async (name: string, action: 'drain' | 'uncordon'): Promise<void> => {
  const { status, text } = await cluster.instance.api('POST', `/v1/nodes/${name}/${action}`);
  if (status !== 200) throw new Error(`${action} of ${name}: ${status} ${text}`);
};

const canary = (steps: readonly object[], more: object = {}) => ({
  update: { strategy: 'canary', steps, judge: { maxLatencyFactor: 0 }, ...more },
});

clusterScenario(
  'a blue-green release that is aborted before the switch gets no request, and one that switches loses none',
  () => cluster,
  async ({ instance }) => {
    await apply(instance, await shop('v1'));
    await answersEverywhere('web v1');
    const load = await underLoad(NODES, async () => {
      const manual = { update: { strategy: 'blue-green', promote: 'manual' } };
      const { id } = await applyAsync(instance, await shop('v2', manual));
      await untilRecorded(instance, id, ({ state }) => state === 'paused');
      expect((await steer(instance, 'shop', 'abort')).status).toBe(202);
      expect(await ended(id)).toMatchObject({ state: 'rolled_back' });
    });
    assertNoneLost(load);
    expect(load.count('web v2')).toBe(0);
    await assertClusterConverged(cluster);

    const second = await underLoad(NODES, async () => {
      const update = { strategy: 'blue-green', keepOldSeconds: 1 };
      await apply(instance, await shop('v2', { update }));
      await answersEverywhere('web v2');
    });
    assertNoneLost(second);
    expect(second.count('web v1')).toBeGreaterThan(0);
    expect(second.count('web v2')).toBeGreaterThan(0);
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  'a canary that fails its judgement is rolled back, and only its own errors are seen',
  () => cluster,
  async ({ instance }) => {
    const victims = NODES.map((name) =>
      startLoad({
        address: ingressOf(name),
        hostname: HOSTNAME,
        clients: 1,
        path: '/cgi-bin/health',
        pauseMs: 20,
      }),
    );
    try {
      const load = await underLoad(NODES, async () => {
        const env = ['HEALTH=failing'];
        const { id } = await applyAsync(
          instance,
          await shop('v1', { ...canary([{ weight: 20, seconds: 600 }]), env }),
        );
        expect(await ended(id)).toMatchObject({ state: 'rolled_back', error: { code: 'unhealthy' } });
      });
      assertNoneLost(load);
    } finally {
      await Promise.all(victims.map((each) => each.stop()));
    }
    const errors = victims.flatMap((each) => each.report().failures);
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.filter((why) => !why.endsWith('status 500: failing\n'))).toEqual([]);
    await answersEverywhere('web v2');
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  'a canary that does well takes over, and is scaled up and down, without a request lost',
  () => cluster,
  async ({ instance }) => {
    const load = await underLoad(NODES, async () => {
      const steps = [
        { weight: 20, seconds: 2 },
        { weight: 60, seconds: 2 },
      ];
      const { id } = await applyAsync(instance, await shop('v1', canary(steps)));
      const done = await ended(id);
      expect(done.message).toMatch(/^v\d+ runs at scale 3: v\d+ answered 0% of [\d,]+ requests with errors/);
      await change(instance, 'PATCH', '/v1/microservices/shop', { scale: 6 });
      await change(instance, 'PATCH', '/v1/microservices/shop', { scale: 1 });
      await change(instance, 'PATCH', '/v1/microservices/shop', { scale: SCALE });
    });
    assertNoneLost(load);
    expect(load.count('web v1')).toBeGreaterThan(100);
    await assertClusterConverged(cluster);
  },
);

/** Deploys a canary that has half of the requests for long. @returns its operation */
const halfCanary = async (tag: string): Promise<string> => {
  const { id } = await applyAsync(cluster.instance, await shop(tag, canary([{ weight: 50, seconds: 600 }])));
  await says(id, '50%');
  return id;
};

const promote = async (id: string, text: string): Promise<void> => {
  expect((await steer(cluster.instance, 'shop', 'promote')).status).toBe(202);
  expect(await ended(id)).toMatchObject({ state: 'succeeded' });
  await answersEverywhere(text);
};

clusterScenario(
  'a node that is drained in the middle of a canary gives both releases away, without a request lost',
  () => cluster,
  async () => {
    const load = await underLoad(NODES, async (running) => {
      const id = await halfCanary('v2');
      await settle('node-3', 'drain');
      await eventually(async () => expect(await nodesOfReplicas()).not.toContain('node-3'), {
        timeoutMs: 60_000,
        describe: 'node-3 is drained',
      });
      const [one, two] = [running.count('web v1'), running.count('web v2')];
      await eventually(() => {
        expect(running.count('web v1')).toBeGreaterThan(one + 20);
        expect(running.count('web v2')).toBeGreaterThan(two + 20);
      });
      await promote(id, 'web v2');
      await settle('node-3', 'uncordon');
    });
    assertNoneLost(load);
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  'a node that is lost in the middle of a canary takes with it only what was under way there',
  () => cluster,
  async () => {
    const load = await underLoad(['node-1', 'node-3'], async (running) => {
      const id = await halfCanary('v1');
      await cluster.node('node-2').powerOff();
      await untilHealth(cluster, 'node-2', 'lost');
      await eventually(
        async () => {
          const elsewhere = (await replicas(cluster.instance, 'shop')).filter(
            ({ node, state }) => node !== 'node-2' && state === 'running',
          );
          // All of the old release, and half of the new one.
          expect(elsewhere).toHaveLength(SCALE + 2);
        },
        { timeoutMs: 60_000, describe: 'both releases have all of their replicas again' },
      );
      await running.goesOn();
      await cluster.node('node-2').powerOn();
      await promote(id, 'web v1');
    });
    // A client has one request at a time.
    expect(load.failures().filter((ofOne) => ofOne.length > 1)).toEqual([]);
    await assertClusterConverged(cluster);
  },
);

clusterScenario(
  "a release that is switched blue-green loses nothing when Consul's server is killed in its middle",
  () => cluster,
  async ({ instance }) => {
    const load = await underLoad(NODES, async () => {
      const manual = { update: { strategy: 'blue-green', promote: 'manual', keepOldSeconds: 1 } };
      const { id } = await applyAsync(instance, await shop('v2', manual));
      await untilRecorded(instance, id, ({ state }) => state === 'paused');
      const pid = cluster.head.product.pid('consul');
      cluster.head.kill('consul');
      await eventually(() => expect(cluster.head.product.pid('consul')).not.toBe(pid));
      await eventually(async () => expect((await steer(instance, 'shop', 'promote')).status).toBe(202));
      expect(await ended(id)).toMatchObject({ state: 'succeeded' });
      await answersEverywhere('web v2');
    });
    assertNoneLost(load);
    await assertClusterConverged(cluster);
  },
);

/** kill -9 of all that ContainerOS runs on the head at one moment, and a new start; its containers run on. */
const killHead = async (): Promise<void> => {
  await cluster.head.product.killAll();
  await cluster.head.product.start();
};

clusterScenario(
  'a release is switched blue-green to its end, and loses nothing, although the head is killed before, in and after it',
  () => cluster,
  async ({ instance }) => {
    const load = await underLoad(['node-2', 'node-3'], async (running) => {
      const manual = { update: { strategy: 'blue-green', promote: 'manual', keepOldSeconds: 5 } };
      const { id } = await applyAsync(instance, await shop('v1', manual));
      await untilRecorded(instance, id, ({ state }) => state === 'paused');
      await killHead();
      await running.goesOn();
      expect(running.count('web v1')).toBe(0);

      expect((await steer(instance, 'shop', 'promote')).status).toBe(202);
      await killHead();
      await Promise.all(['node-2', 'node-3'].map((name) => answersOn(name, HOSTNAME, 'web v1')));
      await killHead();
      expect(await ended(id)).toMatchObject({ state: 'succeeded' });
      await answersEverywhere('web v1');
      const old = running.count('web v2');
      await running.goesOn();
      expect(running.count('web v2')).toBe(old);
    });
    assertNoneLost(load);
    await assertClusterConverged(cluster);
    await removeMicroservice(instance, 'shop');
  },
);

const GRACE_MS = 4_000;
const UPLOAD_BYTES = 20;

for (const [strategy, update] of [
  ['blue-green', { strategy: 'blue-green', keepOldSeconds: 1 }],
  ['canary', { strategy: 'canary', steps: [{ weight: 50, seconds: 1 }], judge: false }],
] as const) {
  clusterScenario(
    `web sockets and long uploads through every node have their grace over a ${strategy} release`,
    () => cluster,
    async ({ instance, web }) => {
      const name = `slow-${strategy}`;
      const hostname = `${name}.localhost`;
      const image = await web('v1');
      const spec = (version: string) =>
        named(name, image, {
          scale: 2,
          update,
          container: { ...longRequestServer(version), stopGraceSeconds: GRACE_MS / 1_000 },
        });
      await apply(instance, spec('one'));
      await answersEverywhere('one got 0', hostname);
      const old = (await replicas(instance, name)).map(({ id }) => id);
      const open = await Promise.all(
        NODES.map(async (node) => ({
          socket: await openWebSocket(ingressOf(node), hostname),
          upload: openUpload(ingressOf(node), hostname, UPLOAD_BYTES),
        })),
      );
      const { id } = await applyAsync(instance, spec('two'));
      await eventually(
        async () => {
          const stopping = (await replicas(instance, name)).filter(({ state }) => state === 'stopping');
          expect(stopping.map((each) => each.id).sort()).toEqual([...old].sort());
        },
        { timeoutMs: 60_000, describe: 'the old replicas are being stopped' },
      );
      const stoppingAt = performance.now();
      await answersEverywhere('two got 0', hostname);
      // For about half of the grace.
      for (let sent = 1; sent < UPLOAD_BYTES; sent += 1) {
        for (const { upload } of open) upload.send();
        await Promise.all(open.map(({ socket }) => socket.echo(`${sent}`)));
        await delay(GRACE_MS / 2 / UPLOAD_BYTES);
      }
      expect(await Promise.all(open.map(({ upload }) => upload.answer()))).toEqual(
        NODES.map(() => `one got ${UPLOAD_BYTES}`),
      );
      for (const { socket } of open)
        expect((await socket.closed()) - stoppingAt).toBeGreaterThan(GRACE_MS - 1_000);
      expect(await ended(id)).toMatchObject({ state: 'succeeded' });
      await removeMicroservice(instance, name);
      await assertClusterConverged(cluster);
    },
  );
}
