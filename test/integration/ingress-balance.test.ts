/**
 * Which of several replicas gets a request, with a real Caddy and a real Consul: the one that has the fewest, and of
 * such ones rather that on the same node. Two keepers with a Caddy each are the ingress of two members.
 */

import { createServer, type Server } from 'node:http';

import { readMembers } from '../../adapters/consul/watch-members';
import { createConsulMember, startConsul, type ConsulServer, type RunningConsul } from '../support/consul';
import { httpRequest } from '../support/http';
import { listenOn } from '../support/ingress';
import { routesIn, startIngressNode, type IngressNode, type PublishedRoutes } from '../support/ingress-node';
import { startLoad } from '../support/load';
import { eventually } from '../support/wait';

const OTHER = 'other-node';

let consul: RunningConsul;
let member: ConsulServer;
let nodes: readonly IngressNode[] = [];
let routes: PublishedRoutes;
const servers: Server[] = [];
/** How long each takes for its answer, by its name. */
const answerAfterMs = new Map<string, number>();

beforeAll(async () => {
  consul = await startConsul();
  member = await createConsulMember(consul.server, OTHER);
  member.start();
  await eventually(async () => expect((await readMembers(consul.client)).get(OTHER)).toBe(true), {
    describe: 'the other node is a member',
  });
  routes = routesIn(consul);
  nodes = [await startIngressNode(consul), await startIngressNode(consul, undefined, { nodeId: OTHER })];
}, 60_000);

afterAll(async () => {
  for (const node of nodes) await node.stop();
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  await member?.kill();
  member?.dispose();
  await consul?.close();
}, 30_000);

/** A replica on each of these nodes, which says the name of the node. */
const serveOn = async (name: string, ...nodeIds: readonly string[]): Promise<void> => {
  await routes.publishRoutes(name, { 1: [{}] });
  for (const nodeId of nodeIds) {
    const server = createServer((_, response) => {
      setTimeout(() => response.end(nodeId), answerAfterMs.get(nodeId) ?? 0);
    });
    servers.push(server);
    const replica = routes.replica(`${name}-${nodeId}`, name, await listenOn(server), { nodeId });
    await routes.publish({
      ...replica,
      ports: replica.ports.map((port) => ({ ...port, hostnames: [`${name}.localhost`] })),
    });
  }
  for (const node of nodes) {
    for (const nodeId of nodeIds) {
      await eventually(async () => expect(await askOnce(node, name)).toBe(nodeId), {
        describe: `the replica on ${nodeId} answers`,
      });
    }
    await node.loads.settled();
  }
};

const askOnce = async ({ httpPort }: IngressNode, name: string): Promise<string> =>
  (await httpRequest(`http://127.0.0.1:${httpPort}/`, { headers: { host: `${name}.localhost` } })).text;

/** How many of the answers that clients get at once are of each replica. */
const sharesOf = async (
  { httpPort }: IngressNode,
  name: string,
  clients: number,
  answers: number,
): Promise<(replica: string) => number> => {
  const load = startLoad({ address: `127.0.0.1:${httpPort}`, hostname: `${name}.localhost`, clients });
  try {
    await eventually(() => expect(load.report().answered).toBeGreaterThan(answers));
  } finally {
    await load.stop();
  }
  const { bodies, failures, answered } = load.report();
  expect(failures).toEqual([]);
  return (replica) => (bodies.get(replica) ?? 0) / answered;
};

afterEach(() => answerAfterMs.clear());

test('a replica that is slow gets fewer requests than one that is not', async () => {
  const [node] = nodes as [IngressNode];
  await serveOn('uneven', consul.nodeId, OTHER);
  answerAfterMs.set(consul.nodeId, 100);
  const share = await sharesOf(node, 'uneven', 24, 1_000);
  expect(share(consul.nodeId)).toBeGreaterThan(0);
  expect(share(consul.nodeId)).toBeLessThan(0.25);
});

test('each node asks its own replica first, and the other one when that is busy', async () => {
  const ids = [consul.nodeId, OTHER] as const;
  await serveOn('near', ...ids);
  for (const [index, node] of nodes.entries()) {
    const [own, others] = index === 0 ? ids : ([ids[1], ids[0]] as const);
    const idle = await sharesOf(node, 'near', 1, 400);
    // Three of four, where nothing else is at work: on a busy machine Caddy may still count a request that has been answered.
    // The chance that it is so many of as many as the other has is less than one in ten thousand.
    expect(idle(own)).toBeGreaterThan(0.6);
    expect(idle(others)).toBeGreaterThan(0);
    answerAfterMs.set(own, 100);
    const busy = await sharesOf(node, 'near', 24, 1_000);
    expect(busy(others)).toBeGreaterThan(0.66);
    answerAfterMs.clear();
  }
});
