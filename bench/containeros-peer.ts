// ContainerOS, asked through its HTTP API as users ask it.
// Invariant: a replica counts when Consul shows it passing and its own endpoint has answered; the API's word alone
// counts for nothing.
import { randomUUID } from 'node:crypto';
import { LABEL } from '../contracts/docker';
import type { MicroserviceView, NodeView } from '../openapi/schemas';
import { forgetLosses } from '../test/support/cluster/faults';
import { change, microservices, read } from '../test/support/product';
import { findContainers, specOf, type Bed } from './bed';
import {
  isServing,
  pooled,
  until,
  untilReplicasServe,
  type Directory,
  type Kept,
  type Orchestrator,
} from './peer';

const CHANGE_TIMEOUT_MS = 60_000;
const MAX_ATTEMPTS = 5;
const BLOCKING_WAIT = '10s';
const LOOK_AT_MANY_EVERY_MS = 100;
const MANY_TIMEOUT_MS = 300_000;
const REMOVALS_AT_ONCE = 16;

interface HealthEntry {
  readonly Service: { readonly Address: string; readonly Port: number };
}

export const createContainerOsPeer = (bed: Bed, say: (line: string) => void): Orchestrator => {
  const { instance } = bed;

  /** As the API advises: what was not confirmed in time is sent again with the same key. */
  const send = async (method: string, path: string, body?: unknown): Promise<void> => {
    const headers = { 'idempotency-key': randomUUID() };
    for (let attempt = 1; ; attempt += 1) {
      const answer = await instance.api(method, path, { body, headers, timeoutMs: CHANGE_TIMEOUT_MS });
      if (answer.status === 202) return;
      if (answer.status !== 503 || attempt === MAX_ATTEMPTS)
        throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
      say(`${method} ${path} was not confirmed in time, and is sent again`);
    }
  };

  /** Consul's passing endpoints; after the first answer, it answers when there is something new. */
  const directoryOf = (name: string): Directory => {
    let index = '0';
    return {
      look: async () => {
        const query = index === '0' ? '' : `&index=${index}&wait=${BLOCKING_WAIT}`;
        const answer = await instance.askConsul(`/v1/health/service/${name}?passing=1${query}`, {
          timeoutMs: 30_000,
        });
        if (answer.status !== 200) throw new Error(`Consul: ${answer.status} ${answer.text}`);
        index = String(answer.headers['x-consul-index'] ?? '0');
        return (answer.body as readonly HealthEntry[]).map(({ Service }) =>
          bed.outside(`${Service.Address}:${Service.Port}`),
        );
      },
    };
  };
  const untilServed = (name: string, count: number) => untilReplicasServe(name, directoryOf(name), count);

  const containers = (name: string, which?: 'running') =>
    findContainers(bed, [`${LABEL.cluster}=${instance.clusterId()}`, `${LABEL.microservice}=${name}`], which);

  /** The end of the operation, which is not part of what is timed. */
  const settle = (name: string): Promise<void> =>
    until(`${name} is steady`, async () => {
      const answer = await instance.api('GET', `/v1/microservices/${name}`);
      return answer.status === 200 && (answer.body as MicroserviceView).state === 'steady';
    });

  const deploy = async (name: string, replicas: number): Promise<Kept> => {
    await send('POST', '/v1/microservices', specOf(bed, name, replicas));
    await untilServed(name, replicas);
    let current = replicas;
    return {
      directory: () => directoryOf(name),
      runningContainers: async () => (await containers(name, 'running')).length,
      scale: async (count) => {
        await send('PATCH', `/v1/microservices/${name}`, { scale: count });
        if (count > current) await untilServed(name, count);
        else {
          await until(`${count} containers are left`, async () => (await containers(name)).length === count, {
            pauseMs: 50,
          });
        }
        current = count;
      },
      killAndRecover: async () => {
        await settle(name);
        const [victim] = await containers(name);
        const before = await directoryOf(name).look();
        if (victim === undefined) throw new Error('nothing runs');
        const startedAt = performance.now();
        await victim.engine.docker.getContainer(victim.container.Id).kill();
        // Not asked before one runs, as with the other peers: a packet to an address that nobody has makes the kernel
        // look for its owner again only after a second.
        await until('a container runs', async () => (await containers(name, 'running')).length > 0, {
          pauseMs: 15,
        });
        // Looks overlap: one whose first packet met no container is only sent again by the kernel after a second.
        let serves = false;
        await until(
          'it or its replacement serves',
          async () => {
            const candidates = new Set([...before, ...(await directoryOf(name).look())]);
            for (const endpoint of candidates) void isServing(endpoint).then((is) => (serves ||= is));
            return serves;
          },
          { pauseMs: 15 },
        );
        const servesMs = performance.now() - startedAt;
        await untilServed(name, 1);
        return { servesMs, knownMs: performance.now() - startedAt };
      },
    };
  };

  return {
    id: 'containeros',
    deploy,
    deployMany: async (names, requestsAtOnce) => {
      const asked = new Map<string, Promise<void>>();
      const sent = pooled(names, requestsAtOnce, (name) =>
        send('POST', '/v1/microservices', specOf(bed, name, 1)),
      );
      const begun = until(
        `${names.length} microservices serve`,
        async () => {
          const services = Object.keys(await instance.consul<object>('/v1/catalog/services'));
          for (const name of names) {
            if (services.includes(name) && !asked.has(name)) asked.set(name, untilServed(name, 1));
          }
          return asked.size === names.length;
        },
        { pauseMs: LOOK_AT_MANY_EVERY_MS, timeoutMs: MANY_TIMEOUT_MS },
      );
      await Promise.all([sent, begun]);
      await Promise.all(asked.values());
    },
    untilWhole: async () => {
      await until('every node is there, and nothing is done', async () => {
        const { items: nodes } = await read<{ items: readonly NodeView[] }>(instance, '/v1/nodes');
        const all = await microservices(instance);
        return (
          nodes.length === bed.engines.length &&
          nodes.every(({ health, connected }) => health === 'healthy' && connected) &&
          all.every(({ state }) => state === 'steady')
        );
      });
      await Promise.all(bed.engines.map(({ hostname }) => forgetLosses(instance, hostname)));
    },
    clear: async () => {
      const all = await microservices(instance);
      await pooled(all, REMOVALS_AT_ONCE, ({ name }) =>
        change(instance, 'DELETE', `/v1/microservices/${name}`),
      );
    },
  };
};
