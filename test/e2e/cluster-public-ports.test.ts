// Public ports on a cluster of two real nodes: each node answers on them, over TCP and UDP, clients lose no connection
// over deploys, and none but what was under way over the loss of a node, and no two microservices have the same one.
import type { ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

import type { NodeView, MicroserviceView } from '../../openapi/schemas';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import type { ClusterNode } from '../support/cluster/cluster-node';
import { containersOn, restoreCluster, untilHealth } from '../support/cluster/faults';
import { httpRequest } from '../support/http';
import { startLoad } from '../support/load';
import { apply, change, microservice, read, removeMicroservice, webSpec } from '../support/product';
import { eventually } from '../support/wait';

const NAMES = ['node-1', 'node-2'];
const PORT = 5080;
const TIMEOUT_MS = 150_000;

let cluster: Cluster;
const helpers: ChildProcess[] = [];
beforeAll(async () => {
  cluster = await startCluster({ nodes: 2 });
}, 120_000);
afterEach(() => restoreCluster(cluster), 60_000); // what a failed test has left
afterAll(async () => {
  for (const helper of helpers) helper.stdin?.end();
  await cluster?.dispose();
}, 60_000);

const gate = async (tag: string, more: object = {}) =>
  webSpec('gate', await cluster.web(tag), {
    scale: 2,
    container: { ports: [], publicPorts: { '80': PORT, '53/udp': PORT }, ...more },
  });

const answersOn = (name: string, text: string, port = PORT): Promise<void> =>
  eventually(
    async () =>
      expect((await httpRequest(`http://${cluster.node(name).address}:${port}/`)).text).toContain(text),
    { describe: `${name} answers on port ${port} with "${text}"` },
  );

/** In the network of a machine, or of one of its processes, until its standard input is closed. */
const runOn = (node: ClusterNode, script: string, pid?: number): ChildProcess => {
  const inside = pid === undefined ? [] : ['nsenter', `--net=/proc/${pid}/ns/net`, '--'];
  const ending = `process.stdin.resume().on('end', () => process.exit()); ${script}`;
  const helper = node.engine.spawn([...inside, process.execPath, '--eval', ending]);
  helpers.push(helper);
  return helper;
};

/** What the web image has no program for: tells, over UDP, what it is told. */
const ECHO = `
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (data, from) => socket.send(data, from.port, from.address));
socket.bind(53);
`;

const answerUdpIn = async (node: ClusterNode): Promise<void> => {
  for (const id of await containersOn(cluster, node, 'gate')) {
    const { State } = await node.engine.docker.getContainer(id).inspect();
    runOn(node, ECHO, State.Pid);
  }
};

/** The process, which runs only while it is needed. */
const forwarderOf = (node: ClusterNode): number | undefined => {
  try {
    return node.product.pid('forwarder');
  } catch {
    return undefined;
  }
};

const askUdp = (address: string, text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    const timer = setTimeout(() => {
      socket.close();
      reject(new Error('nobody has answered'));
    }, 1_000);
    socket.once('message', (data) => {
      clearTimeout(timer);
      socket.close();
      resolve(data.toString());
    });
    socket.send(text, PORT, address);
  });

test(
  'every node answers on a public port, over TCP and UDP, also one without a replica',
  async () => {
    expect(cluster.nodes.map(forwarderOf)).toEqual([undefined, undefined]);
    await apply(cluster.instance, await gate('v1'));
    await Promise.all(NAMES.map((name) => answersOn(name, 'web v1')));
    for (const node of cluster.nodes) await answerUdpIn(node);
    for (const { address } of cluster.nodes) {
      await eventually(async () => expect(await askUdp(address, `to ${address}`)).toBe(`to ${address}`), {
        describe: `${address} answers over UDP`,
      });
    }
    await change(cluster.instance, 'PATCH', '/v1/microservices/gate', { scale: 1 });
    await Promise.all(NAMES.map((name) => answersOn(name, 'web v1')));
    await change(cluster.instance, 'PATCH', '/v1/microservices/gate', { scale: 2 });
    const { publicPorts }: MicroserviceView = await microservice(cluster.instance, 'gate');
    expect(publicPorts).toEqual([
      { port: PORT, protocol: 'tcp', container: 'main', containerPort: 80, troubles: [] },
      { port: PORT, protocol: 'udp', container: 'main', containerPort: 53, troubles: [] },
    ]);
  },
  TIMEOUT_MS,
);

interface Datagrams {
  /** The longest time without an answer, until now. */
  longestSilenceMs(): number;
  /** Whether there was an answer since it was asked last. */
  takeHeard(): boolean;
  stop(): void;
}

/** From one address, again and again. */
const startDatagrams = (address: string): Datagrams => {
  const socket = createSocket('udp4');
  let heardAtMs = performance.now();
  let longestMs = 0;
  let hasHeard = false;
  const silenceMs = () => Math.max(longestMs, performance.now() - heardAtMs);
  socket.on('message', () => {
    longestMs = silenceMs();
    heardAtMs = performance.now();
    hasHeard = true;
  });
  const timer = setInterval(() => socket.send('hello', PORT, address), 50);
  return {
    longestSilenceMs: silenceMs,
    takeHeard: () => {
      const taken = hasHeard;
      hasHeard = false;
      return taken;
    },
    stop: () => {
      clearInterval(timer);
      socket.close();
    },
  };
};

/** A connection on which nobody says anything. */
const openIdle = async (address: string): Promise<Socket> => {
  const socket = connect(PORT, address);
  await once(socket, 'connect');
  socket.on('error', () => undefined); // that it is reset is what is waited for
  return socket;
};

/** What is led to a lost node gets no answer for so long: two to three seconds, and more on a busy machine. */
const LOSS_FOUND_MS = 10_000;

test(
  'when a node loses its power, the other one answers on and ends what it led there; when it is back, it answers again',
  async () => {
    const [one, two] = cluster.nodes;
    if (one === undefined || two === undefined) throw new Error('there are no two nodes');
    // Also in the replica that was started since, on whichever node it is.
    for (const node of cluster.nodes) await answerUdpIn(node);
    const idle = await Promise.all(Array.from({ length: 6 }, () => openIdle(one.address)));
    const datagrams = Array.from({ length: 6 }, () => startDatagrams(one.address));
    const clients = 4;
    const load = startLoad({
      address: `${one.address}:${PORT}`,
      hostname: 'gate',
      clients,
      pauseMs: 10,
      timeoutMs: LOSS_FOUND_MS,
    });
    const hear = (): Promise<void> =>
      eventually(() => expect(datagrams.filter((each) => !each.takeHeard())).toEqual([]), {
        intervalMs: 500,
        describe: 'all who send datagrams are answered',
      });
    try {
      await hear();
      await two.powerOff();
      const offAtMs = performance.now();
      await eventually(() => expect(idle.filter(({ destroyed }) => destroyed)).not.toEqual([]), {
        describe: 'connections that were led to the lost node are ended',
      });
      expect(performance.now() - offAtMs).toBeLessThan(LOSS_FOUND_MS);
      await hear();
      await untilHealth(cluster, two.name, 'lost');
      expect(idle.filter(({ destroyed }) => !destroyed)).not.toEqual([]);
      await two.powerOn();
      await assertClusterConverged(cluster);
      await answersOn(two.name, 'web v1');
      for (const node of cluster.nodes) await answerUdpIn(node);
      await eventually(async () => expect(await askUdp(two.address, 'again')).toBe('again'), {
        describe: `${two.name} answers over UDP again`,
      });
      await hear();
    } finally {
      for (const each of datagrams) each.stop();
      for (const socket of idle) socket.destroy();
      await load.stop();
    }
    expect(Math.max(...datagrams.map((each) => each.longestSilenceMs()))).toBeLessThan(LOSS_FOUND_MS);
    // What was under way there: a client has one request at a time.
    const { answered, failures } = load.report();
    expect(failures.length).toBeLessThanOrEqual(clients);
    expect(answered).toBeGreaterThan(100);
  },
  TIMEOUT_MS,
);

/** Waits until what a node's worker that was killed does for the ingress is done again. */
const confirming = async (name: string): Promise<void> => {
  const connected = async () => (await read<NodeView>(cluster.instance, `/v1/nodes/${name}`)).connected;
  await eventually(async () => expect(await connected()).toBe(false), { describe: `${name} is found gone` });
  await eventually(async () => expect(await connected()).toBe(true), { describe: `${name} is back` });
};

test(
  'no connection is lost over deploys, a node worker that is killed and a head node that restarts',
  async () => {
    const load = startLoad({
      address: `${cluster.node('node-2').address}:${PORT}`,
      hostname: 'gate',
      clients: 4,
    });
    try {
      await apply(cluster.instance, await gate('v2'));
      cluster.node('node-2').kill('node');
      // Until it is back it confirms nothing, and whoever stops a replica does not wait for that for long.
      await confirming('node-2');
      await apply(cluster.instance, await gate('v1'));
      await cluster.head.restart();
      await answersOn('node-1', 'web v1');
      await apply(cluster.instance, await gate('v2'));
    } finally {
      await load.stop();
    }
    const { answered, failures } = load.report();
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(100);
    await assertClusterConverged(cluster);
  },
  TIMEOUT_MS,
);

test(
  'a forwarder that is killed is started again, and leads as before',
  async () => {
    const node = cluster.node('node-2');
    const before = forwarderOf(node);
    node.kill('forwarder');
    await eventually(
      () => {
        const now = forwarderOf(node);
        expect(now).toBeDefined();
        expect(now).not.toBe(before);
      },
      { describe: 'another forwarder runs' },
    );
    await answersOn('node-2', 'web v2');
  },
  TIMEOUT_MS,
);

test(
  'a public port is one microservice’s: others are told whose, until it is given up',
  async () => {
    const other = webSpec('other', await cluster.web('v1'), {
      container: { ports: [], publicPorts: { '80': PORT } },
    });
    const refused = await cluster.instance.api('POST', '/v1/microservices', { body: other });
    expect(refused.status).toBe(409);
    expect(refused.text).toContain(`The public port ${PORT}/tcp belongs to the microservice gate.`);
    const dryRun = await cluster.instance.api('POST', '/v1/microservices?dryRun=true&moveHostnames=true', {
      body: other,
    });
    expect(dryRun.body).toMatchObject({
      publicPorts: [{ port: PORT, protocol: 'tcp', change: 'moved', from: 'gate' }],
    });
    await apply(cluster.instance, await gate('v2', { publicPorts: { '80': PORT + 1 } }));
    await Promise.all(NAMES.map((name) => answersOn(name, 'web v2', PORT + 1)));
    await apply(cluster.instance, other);
    await Promise.all(NAMES.map((name) => answersOn(name, 'web v1')));
    // Back, in one step: who had it keeps the rest.
    const load = startLoad({
      address: `${cluster.node('node-1').address}:${PORT}`,
      hostname: 'gate',
      clients: 2,
    });
    const taking = await gate('v2', { publicPorts: { '80': [PORT, PORT + 1] } });
    const taken = await cluster.instance.api('POST', '/v1/microservices?moveHostnames=true&wait=60s', {
      body: taking,
      timeoutMs: 90_000,
    });
    expect(taken.status).toBe(200);
    await Promise.all(NAMES.map((name) => answersOn(name, 'web v2')));
    await eventually(
      async () => expect((await microservice(cluster.instance, 'other')).publicPorts).toEqual([]),
      { describe: 'who had the port asks for it no more' },
    );
    const { failures } = await load.stop();
    expect(failures).toEqual([]);
    await removeMicroservice(cluster.instance, 'other');
    await removeMicroservice(cluster.instance, 'gate');
    await eventually(
      async () => {
        const dialled = httpRequest(`http://${cluster.node('node-2').address}:${PORT + 1}/`);
        await expect(dialled).rejects.toThrow('ECONNREFUSED');
      },
      { describe: 'the port is closed' },
    );
    await eventually(() => expect(cluster.nodes.map(forwarderOf)).toEqual([undefined, undefined]), {
      describe: 'no forwarder runs any more',
    });
  },
  TIMEOUT_MS,
);

test(
  'a node on which a port is taken says so, answers on its others, and takes the port when it is free',
  async () => {
    const node = cluster.node('node-2');
    const holder = runOn(
      node,
      `require('node:net').createServer().listen(${PORT}, () => console.log('has it'))`,
    );
    await new Promise((resolve) => holder.stdout?.once('data', resolve));
    await apply(cluster.instance, await gate('v1', { publicPorts: { '80': [PORT, PORT + 1] } }));
    await answersOn('node-1', 'web v1');
    await Promise.all(NAMES.map((name) => answersOn(name, 'web v1', PORT + 1)));
    await eventually(
      async () => {
        const { publicPorts } = await microservice(cluster.instance, 'gate');
        expect(publicPorts[0]?.troubles).toEqual([
          { node: 'node-2', reason: expect.stringContaining('is taken by another program') as unknown },
        ]);
        expect(publicPorts[1]?.troubles).toEqual([]);
      },
      { describe: 'the microservice tells of the port' },
    );
    const { reasons, health } = await read<NodeView>(cluster.instance, '/v1/nodes/node-2');
    expect(health).toBe('healthy');
    expect(reasons.join()).toContain(`port ${PORT}/tcp is taken by another program`);
    holder.stdin?.end();
    await answersOn('node-2', 'web v1');
    await eventually(
      async () => expect((await microservice(cluster.instance, 'gate')).publicPorts[0]?.troubles).toEqual([]),
      { describe: 'nothing is told of the port any more' },
    );
    await removeMicroservice(cluster.instance, 'gate');
  },
  TIMEOUT_MS,
);
