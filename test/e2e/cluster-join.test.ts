// A cluster of three: machines join by one command and get work, and what was on a node that is cut off, frozen, killed
// or without power serves elsewhere, and once.
import { createInterface } from 'node:readline';
import { LABEL } from '../../contracts/docker';
import type { EventView, NodeView, ReplicaView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged, findClusterProblems } from '../support/cluster/cluster-checker';
import { pageInside } from '../support/cluster/faults';
import { clusterScenario } from '../support/cluster/scenario';
import { openRequest } from '../support/http';
import type { Machine } from '../support/machine';
import { apply, change, endpoints, events, page, read, replicas, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'shop';
const SCALE = 6;
const JOIN_LIMIT_MS = 5_000;
const HOUR_MS = 3_600_000;
const NODES = ['node-1', 'node-2', 'node-3'];

let cluster: Cluster;

/** How long each took from the start of `containeros join` until the API showed it healthy and connected. */
const joinedInMs: number[] = [];

beforeAll(async () => {
  cluster = await startCluster({ nodes: 1, clocks: true });
  while (cluster.nodes.length < NODES.length) joinedInMs.push((await cluster.addNode()).product.startedInMs);
}, 120_000);

afterAll(() => cluster?.dispose(), 60_000);

// What a failed test left broken must not fail those after it.
afterEach(async () => {
  if (cluster === undefined) return;
  await cluster.healNetwork();
  for (const node of cluster.nodes) {
    node.setClock('+0');
    await node.powerOn();
    await node.startEngine();
  }
}, 120_000);

const placed = async (): Promise<Map<string, ReplicaView[]>> => {
  const byNode = new Map<string, ReplicaView[]>();
  for (const replica of await replicas(cluster.instance, SERVICE))
    byNode.set(replica.node, [...(byNode.get(replica.node) ?? []), replica]);
  return byNode;
};

/**
 * Places all anew, and sees that a node has work: one that comes back gets none by itself.
 *
 * @param name of a node that was lost once at most: what comes and goes is used only where nothing else will do
 */
const giveWorkTo = async (name: string): Promise<void> => {
  await change(cluster.instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 1 });
  await change(cluster.instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: SCALE });
  await assertClusterConverged(cluster);
  expect([...(await placed()).keys()]).toContain(name);
};

/** Whether traffic and work have left a node: what Consul gives out is elsewhere, and answers. */
const servesWithout = async (name: string): Promise<void> => {
  await assertClusterConverged(cluster, { without: [name] });
  const found = await endpoints(cluster.instance, SERVICE);
  expect(found).toHaveLength(SCALE);
  for (const endpoint of found) {
    expect(endpoint).not.toContain(`${cluster.node(name).address}:`);
    expect(await page(cluster.instance, endpoint)).toMatch(/^200 web v1/);
  }
};

/** `open`, or why not, for somebody on that machine who connects by TCP. */
const dialInside = async (machine: Machine, host: string, port: number): Promise<string> => {
  const dial = `
    const socket = require('node:net').connect({ host: '${host}', port: ${port}, timeout: 5000 });
    const end = (text) => { console.log(text); socket.destroy(); };
    socket.on('connect', () => end('open')).on('error', ({ code }) => end(code)).on('timeout', () => end('silent'));
  `;
  return (await machine.exec([process.execPath, '-e', dial])).stdout.trim();
};

/** What listens on a machine for others, as `tcp 7443`. */
const openPorts = async (machine: Machine): Promise<readonly string[]> => {
  const { stdout } = await machine.exec(['ss', '-Htuln']);
  const sockets = stdout.trim().split('\n');
  const open = sockets.flatMap((line) => {
    const [protocol = '', , , , local = ''] = line.split(/\s+/);
    return /^(127\.|\[::1\])/.test(local) ? [] : [`${protocol} ${local.split(':').at(-1)}`];
  });
  return [...new Set(open)].sort();
};

clusterScenario(
  'machines that join are nodes within five seconds',
  () => cluster,
  async (running) => {
    for (const tookMs of joinedInMs) expect(tookMs).toBeLessThan(JOIN_LIMIT_MS);
    const { items } = await read<{ items: NodeView[] }>(running.instance, '/v1/nodes');
    expect(items.map(({ id, address, health }) => [id, address, health])).toEqual(
      running.nodes.map(({ name, address }) => [name, address, 'healthy']),
    );
    expect(items.map(({ id }) => id)).toEqual(NODES);
  },
);

clusterScenario(
  'replicas are spread over all nodes, and every one answers at the address of its node',
  () => cluster,
  async (running) => {
    await apply(running.instance, webSpec(SERVICE, await running.web(), { scale: SCALE }));
    await assertClusterConverged(running);
    for (const [name, there] of await placed()) {
      expect(there).toHaveLength(SCALE / NODES.length);
      for (const { address } of there.flatMap(({ ports }) => ports)) {
        expect(address).toContain(`${running.node(name).address}:`);
        expect(await page(running.instance, address)).toMatch(/^200 web v1/);
      }
    }
  },
);

clusterScenario(
  'every node reaches every replica',
  () => cluster,
  async (running) => {
    const found = await endpoints(running.instance, SERVICE);
    expect(found).toHaveLength(SCALE);
    for (const { engine } of running.nodes) {
      for (const endpoint of found) expect(await pageInside(engine, endpoint)).toMatch(/^200 web v1/);
    }
  },
);

clusterScenario(
  'others reach of a node what the README says, and neither the engines of the control plane nor an agent',
  () => cluster,
  async (running) => {
    const { head, nodes } = running;
    const byNode = await placed();
    for (const { name, engine } of nodes) {
      const endpointPorts = (byNode.get(name) ?? []).flatMap(({ ports }) =>
        ports.map(({ address, protocol }) => `${protocol} ${address.split(':').at(-1)}`),
      );
      const every = ['tcp 80', 'tcp 443', 'udp 443', 'tcp 8301', 'udp 8301'];
      const ofHead = name === head.name ? ['tcp 7443', 'tcp 8300'] : [];
      expect([name, await openPorts(engine)]).toEqual([name, [...every, ...ofHead, ...endpointPorts].sort()]);
    }
    const member = running.node('node-2');
    // Temporal, its Web UI, Consul's HTTP API, and the API for users, which nobody has opened here.
    for (const port of [7233, 8233, 8500, 8000]) {
      expect([port, await dialInside(head.engine, '127.0.0.1', port)]).toEqual([port, 'open']);
      expect([port, await dialInside(member.engine, head.address, port)]).toEqual([port, 'ECONNREFUSED']);
    }
    expect(await dialInside(member.engine, head.address, 7443)).toBe('open');
    expect(await dialInside(member.engine, '127.0.0.1', 8500)).toBe('open');
    expect(await dialInside(head.engine, member.address, 8500)).toBe('ECONNREFUSED');
  },
);

clusterScenario(
  'the log of a replica on a joined node streams, new lines too',
  () => cluster,
  async (running) => {
    const { instance, head } = running;
    const [replica] = (await placed()).get('node-3') ?? [];
    const container = replica?.containers[0]?.containerId ?? '';
    const response = await openRequest(
      `http://${head.engine.loopbackAddress}:${instance.apiPort}/v1/replicas/${replica?.id}/logs?follow=true`,
      {
        headers: {
          host: `127.0.0.1:${instance.apiPort}`,
          authorization: `Bearer ${instance.password}`,
        },
        timeoutMs: 30_000,
      },
    );
    expect(response.statusCode).toBe(200);
    const wanted = ['serving web v1', 'written just now'];
    try {
      for await (const line of createInterface({ input: response })) {
        if (!line.includes(wanted[0] ?? '')) continue;
        wanted.shift();
        if (wanted.length === 0) break;
        await running
          .node('node-3')
          .engine.exec([...['docker', 'exec', container, 'sh', '-c', 'echo written just now >/proc/1/fd/1']]);
      }
    } finally {
      response.destroy();
    }
    expect(wanted).toEqual([]);
  },
);

clusterScenario(
  'the checker sees what is too much, what is too little, and what does not answer',
  () => cluster,
  async (running) => {
    const { engine, name } = running.node('node-3');
    const [replica] = (await placed()).get(name) ?? [];
    const id = replica?.containers[0]?.containerId ?? '';
    await running.node(name).freeze('node'); // which would mend all of it
    try {
      const orphan = await engine.docker.createContainer({
        Image: replica?.containers[0]?.imageId ?? '',
        name: 'left-over',
        Labels: { [LABEL.cluster]: running.instance.clusterId(), [LABEL.replica]: 'shop-zzzzzz' },
      });
      const tooMuch = await findClusterProblems(running);
      expect(tooMuch).toContain('node-3: Docker has /left-over, which nobody wants');
      await orphan.remove({ force: true });

      await engine.docker.getContainer(id).stop({ t: 1 });
      const tooLittle = (await findClusterProblems(running)).join('\n');
      expect(tooLittle).toMatch(/node-3: .* is exited/);
      expect(tooLittle).toMatch(new RegExp(`shop: ${replica?.id} at .* answers .*ECONNREFUSED`));
    } finally {
      running.node(name).thaw('node');
    }
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'a node whose cable is pulled: its replicas serve on there, and elsewhere; when it is back its surplus stops',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-2');
    const node = running.node('node-2');
    const there = ((await placed()).get(node.name) ?? []).flatMap(({ ports }) => ports);
    const askAll = () => Promise.all(there.map(({ address }) => pageInside(node.engine, address)));
    const before = await askAll();
    expect(before.length).toBeGreaterThan(0);
    await node.cut();
    await servesWithout(node.name);
    // Cut off, not down: who is on that side is answered by the same containers as before.
    expect(await askAll()).toEqual(before);
    for (const answer of before) expect(answer).toMatch(/^200 web v1/);
    await node.heal();
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'two joined nodes that do not reach each other go on serving, as both reach the head',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-3');
    const before = [...(await placed())].flatMap(([, there]) => there.map(({ id }) => id)).sort();
    await running.cutBetween('node-2', 'node-3');
    await change(running.instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: SCALE + 1 });
    await assertClusterConverged(running);
    const after = (await replicas(running.instance, SERVICE)).map(({ id }) => id);
    expect(before.filter((id) => !after.includes(id))).toEqual([]);
    await running.healNetwork();
    await change(running.instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: SCALE });
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'a node at the end of a long cable is a node like others',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-3');
    const before = (await replicas(running.instance, SERVICE)).map(({ id }) => id).sort();
    await running.node('node-3').delay(50);
    await change(running.instance, 'POST', `/v1/microservices/${SERVICE}/restart`, {});
    await assertClusterConverged(running);
    const after = await replicas(running.instance, SERVICE);
    expect(after.filter(({ id }) => before.includes(id))).toEqual([]);
    expect(after.some(({ node }) => node === 'node-3')).toBe(true);
  },
);

clusterScenario(
  'a joined node whose worker hangs for a while does what was asked meanwhile, once',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-2');
    const node = running.node('node-2');
    const elsewhere = SCALE - ((await placed()).get(node.name) ?? []).length;
    await node.freeze('node');
    try {
      const asked = await running.instance.api('PATCH', `/v1/microservices/${SERVICE}`, {
        body: { scale: SCALE * 2 },
      });
      expect(asked.status).toBe(202);
      // What others were given to do is done, and what this one was given waits for it.
      await eventually(async () => {
        const others = (await replicas(running.instance, SERVICE)).filter((each) => each.node !== node.name);
        expect(others.length).toBeGreaterThan(elsewhere);
      });
      expect(await findClusterProblems(running)).not.toEqual([]);
    } finally {
      node.thaw('node');
    }
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'a joined node that loses power, and comes back',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-3');
    const node = running.node('node-3');
    await node.powerOff();
    await servesWithout(node.name);
    await node.powerOn();
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'a joined node whose clock is three hours wrong says so, keeps its work, and nothing that it tells is lost',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-2');
    const node = running.node('node-2');
    const before = (await placed()).get('node-2')?.map(({ id }) => id);
    const sinceMs = Date.now();
    node.setClock('+3h');
    await assertClusterConverged(running, { clocksOff: ['node-2'] });
    expect((await placed()).get('node-2')?.map(({ id }) => id)).toEqual(before);
    const words = 'its clock is 3 hours ahead of that of the head node: set it, for example by NTP';
    const isDegraded = ({ type }: EventView) => type === 'node.degraded';
    const told = await eventually(
      async () => {
        const [last] = (await events(running.instance, 'node=node-2')).filter(isDegraded).slice(-1);
        expect(last?.message).toBe(`Node node-2 is degraded: ${words}.`);
        return last;
      },
      { timeoutMs: 10_000, describe: 'the event of the node is among those of the cluster' },
    );
    expect(Date.parse(told?.at ?? '')).toBeGreaterThan(sinceMs - 1_000);
    expect(Date.parse(told?.at ?? '')).toBeLessThan(Date.now() + 1_000);
    expect(Math.abs(Date.parse(told?.nodeAt ?? '') - sinceMs - 3 * HOUR_MS)).toBeLessThan(60_000);
    expect(node.product.log().split(words)).toHaveLength(2);
    await change(running.instance, 'POST', `/v1/microservices/${SERVICE}/restart`, {});
    await assertClusterConverged(running, { clocksOff: ['node-2'] });
    node.setClock('+0');
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'the head restarts and is killed: joined nodes go on, and are nodes again',
  () => cluster,
  async (running) => {
    await giveWorkTo('node-2');
    await running.head.restart();
    await assertClusterConverged(running);
    await running.head.product.killAll();
    await running.head.product.start();
    await assertClusterConverged(running);
    await change(running.instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: SCALE });
    await assertClusterConverged(running);
  },
);

clusterScenario(
  'a joined node whose processes are killed, or whose ContainerOS is restarted, keeps its containers',
  () => cluster,
  async (running) => {
    const node = await running.addNode();
    await giveWorkTo(node.name);
    const before = ((await placed()).get(node.name) ?? [])
      .flatMap(({ containers }) => containers.map(({ containerId }) => containerId))
      .sort();
    const runs = async (): Promise<readonly string[]> =>
      (await node.engine.docker.listContainers())
        .map(({ Id }) => Id)
        .filter((id) => before.includes(id))
        .sort();
    node.kill('node');
    await assertClusterConverged(running);
    node.kill('consul');
    await assertClusterConverged(running);
    expect(await runs()).toEqual(before);
    await node.restart();
    await assertClusterConverged(running);
    expect(await runs()).toEqual(before);
    await node.product.killAll();
    expect(await runs()).toEqual(before);
    await node.product.start();
    await assertClusterConverged(running);
  },
);
