// What tests of faults on a cluster share: a watch over a service that must never stop answering, what runs where, and the
// way back from whatever was done to the nodes.
import { setTimeout as delay } from 'node:timers/promises';
import { LABEL } from '../../../contracts/docker';
import { nodeStabilityKvKey } from '../../../contracts/kv';
import { firstSeen, type NodeStability } from '../../../domain/flapping';
import { httpRequest } from '../http';
import type { Instance } from '../instance';
import type { Machine } from '../machine';
import { endpoints, read, replicas } from '../product';
import { ALL_ROLES } from '../product-process';
import { eventually } from '../wait';
import type { Cluster } from './cluster';
import type { ClusterNode } from './cluster-node';

const PROBE_INTERVAL_MS = 50;
/** A page is a few milliseconds' work; so long may a busy machine take. */
const PROBE_TIMEOUT_MS = 5_000;

/**
 * Asks all replicas of a service for a page, again and again, while something is done, as somebody who knows their
 * addresses: there must be one that answers at any time. Addresses are those that Consul gave when it was last asked.
 *
 * @throws when there was a moment at which none answered
 */
export async function answering(cluster: Cluster, service: string, body: () => Promise<void>): Promise<void> {
  const { instance } = cluster;
  const startedAt = performance.now();
  const gaps: string[] = [];
  let known = await endpoints(instance, service);
  let rounds = 0;
  let isOver = false;
  const ask = async (address: string): Promise<void> => {
    const url = `http://${instance.outside(address)}/`;
    const { status } = await httpRequest(url, { timeoutMs: PROBE_TIMEOUT_MS });
    if (status !== 200) throw new Error(`${status}`);
  };
  const askAll = async (): Promise<void> => {
    while (!isOver) {
      const asked = known;
      try {
        await Promise.any(asked.map(ask));
      } catch (error) {
        const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
        const reasons = (error as AggregateError).errors.map(String).join(', ');
        gaps.push(`after ${seconds} s none of [${asked.join(' ')}] answered: ${reasons}`);
      }
      rounds += 1;
      await delay(PROBE_INTERVAL_MS);
    }
  };
  const follow = async (): Promise<void> => {
    while (!isOver) {
      // While Consul's server is away nobody is told of other addresses.
      const found = await endpoints(instance, service).catch(() => []);
      if (found.length > 0) known = found;
      await delay(PROBE_INTERVAL_MS);
    }
  };
  const ended = Promise.all([askAll(), follow()]);
  try {
    await body();
  } finally {
    isOver = true;
    await ended;
  }
  expect(rounds).toBeGreaterThan(0);
  expect(gaps).toEqual([]);
}

/** What an endpoint answers to somebody on that machine, as `200 web v1 …`. */
export async function pageInside(machine: Machine, endpoint: string): Promise<string> {
  const get = `fetch('http://${endpoint}/').then(async (r) => console.log(r.status, await r.text()))`;
  return (await machine.exec([process.execPath, '-e', get])).stdout.trim();
}

/** Ids of the containers that a microservice has on a node, running or not, without those that only hold a network. */
export async function containersOn(
  cluster: Cluster,
  node: ClusterNode,
  microservice: string,
): Promise<readonly string[]> {
  const label = [`${LABEL.cluster}=${cluster.instance.clusterId()}`, `${LABEL.microservice}=${microservice}`];
  const all = await node.engine.docker.listContainers({ all: true, filters: JSON.stringify({ label }) });
  return all
    .filter((each) => each.Labels[LABEL.role] !== 'sandbox')
    .map(({ Id }) => Id)
    .sort();
}

/** One container, and since when it runs: another time, or a count that is not the same, is a restart. */
export interface ContainerRun {
  readonly node: string;
  readonly id: string;
  readonly startedAt: string;
  readonly restartCount: number;
}

/** Containers that a microservice has on some nodes, as `containersOn` finds them, each with its last start. */
export async function containerRuns(
  cluster: Cluster,
  nodes: readonly ClusterNode[],
  microservice: string,
): Promise<readonly ContainerRun[]> {
  const perNode = await Promise.all(
    nodes.map(async (node) =>
      Promise.all(
        (await containersOn(cluster, node, microservice)).map(async (id) => {
          const { State, RestartCount } = await node.engine.docker.getContainer(id).inspect();
          return { node: node.name, id, startedAt: State.StartedAt, restartCount: RestartCount };
        }),
      ),
    ),
  );
  return perNode.flat();
}

/** What `containersOn` finds on all nodes, as `node: id`. */
export async function containersEverywhere(
  cluster: Cluster,
  microservice: string,
): Promise<readonly string[]> {
  const perNode = await Promise.all(
    cluster.nodes.map(async (node) =>
      (await containersOn(cluster, node, microservice)).map((id) => `${node.name}: ${id}`),
    ),
  );
  return perNode.flat();
}

/** How many replicas of a microservice each node has, as the API shows them. */
export async function replicasByNode(
  cluster: Cluster,
  microservice: string,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const { node } of await replicas(cluster.instance, microservice))
    counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}

/** Waits until the API shows a node with this health. */
export const untilHealth = (cluster: Cluster, name: string, wanted: string, timeoutMs = 60_000) =>
  eventually(
    async () => {
      const { health } = await read<{ readonly health: string }>(cluster.instance, `/v1/nodes/${name}`);
      if (health !== wanted) throw new Error(health);
    },
    { timeoutMs, describe: `${name} is ${wanted}` },
  );

/** Takes back every fault: whole network, power, engines, ContainerOS everywhere, nothing frozen. */
export async function restoreCluster(cluster: Cluster): Promise<void> {
  await cluster.healNetwork();
  const on = await Promise.allSettled(
    cluster.nodes.map(async (node) => {
      for (const role of ALL_ROLES) {
        try {
          node.thaw(role);
        } catch {
          // it does not run
        }
      }
      await node.powerOn(); // does nothing that is done
    }),
  );
  for (const outcome of on) if (outcome.status === 'rejected') throw outcome.reason;
}

/**
 * Nodes that were lost before come last for an hour (domain/flapping.ts), and benchmarks and tests lose them every minute:
 * what is remembered of that is replaced by a node that has never been lost.
 */
export const forgetLosses = (instance: Instance, nodeId: string): Promise<void> => {
  const path = `/v1/kv/${nodeStabilityKvKey(nodeId)}`;
  return eventually(
    async () => {
      const [entry] = await instance.consul<readonly { Value: string; ModifyIndex: number }[]>(path);
      if (entry === undefined) throw new Error('nothing is remembered');
      const known = JSON.parse(Buffer.from(entry.Value, 'base64').toString()) as NodeStability;
      if (!known.up) throw new Error('its return has not been recorded');
      if (known.losses === 0) return;
      const body = JSON.stringify(firstSeen(nodeId, known.changedAtMs));
      const answer = await instance.askConsul(`${path}?cas=${entry.ModifyIndex}`, { method: 'PUT', body });
      if (answer.text.trim() !== 'true') throw new Error(`Consul: ${answer.status} ${answer.text}`);
    },
    { describe: `what is remembered of ${nodeId} is replaced` },
  );
};
