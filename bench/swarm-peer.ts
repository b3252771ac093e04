// Docker Swarm on the same engines: the first one's is the manager, and a worker as all of them are.
// Invariant: it is asked for what ContainerOS is asked for: the same image, limits and labels, and a random host port
// for every replica (ports in host mode; the routing mesh needs IPVS in the kernel, which not every machine has).
import type { ServiceSpec } from 'dockerode';
import type { DockerEngine } from '../test/support/engine';
import { findContainers, releaseSpecOf, type Bed } from './bed';
import {
  isServing,
  pooled,
  timed,
  until,
  untilReplicasServe,
  untilServing,
  type Directory,
  type Kept,
  type Orchestrator,
} from './peer';

const LABEL = 'benchmark';
const SWARM_PORT = 2377;
const NANO = 1_000_000_000;
/** How often Swarm is asked for its tasks; it has no call that waits for a change of them. */
const LOOK_EVERY_MS = 15;
const LOOK_AT_MANY_EVERY_MS = 100;
const MANY_TIMEOUT_MS = 300_000;

interface RunningTask {
  readonly ID: string;
  readonly ServiceID: string;
  readonly NodeID: string;
  readonly Status: {
    readonly State: string;
    readonly ContainerStatus?: { readonly ContainerID?: string };
    readonly PortStatus?: { readonly Ports?: readonly { readonly PublishedPort?: number }[] };
  };
}

export const createSwarmPeer = async (bed: Bed): Promise<Orchestrator & { leave(): Promise<void> }> => {
  const { docker } = bed.engines[0];
  const machines = await formSwarm(bed);

  const serviceSpec = (name: string, replicas: number): ServiceSpec => {
    const [container] = releaseSpecOf(bed, name).containers;
    if (container === undefined) throw new Error('a release has a container');
    return {
      Name: name,
      Labels: { [LABEL]: name },
      TaskTemplate: {
        ContainerSpec: { Image: bed.imageDigest, Labels: { [LABEL]: name }, Init: false },
        Resources: {
          Limits: {
            NanoCPUs: Math.min(container.cpus, 1) * NANO,
            MemoryBytes: container.memoryLimitBytes,
            ...(container.pidsLimit === null ? {} : { Pids: container.pidsLimit }),
          },
        },
        LogDriver: { Name: 'json-file', Options: { 'max-size': '10m', 'max-file': '3' } },
      },
      Mode: { Replicated: { Replicas: replicas } },
      EndpointSpec: { Mode: 'dnsrr', Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishMode: 'host' }] },
    };
  };

  const running = async (name?: string): Promise<readonly RunningTask[]> => {
    const filters = {
      'desired-state': ['running'],
      ...(name === undefined ? {} : { service: [name] }),
    };
    const tasks = (await docker.listTasks({
      filters: JSON.stringify(filters),
    })) as unknown as readonly RunningTask[];
    return tasks.filter((task) => task.Status.State === 'running' && portOf(task) !== undefined);
  };
  const engineOf = (task: RunningTask): DockerEngine => {
    const engine = machines.get(task.NodeID);
    if (engine === undefined) throw new Error(`the node ${task.NodeID} is none of ours`);
    return engine;
  };
  const endpointOf = (task: RunningTask): string => `${engineOf(task).address}:${portOf(task)}`;

  const directoryOf = (name: string): Directory => ({
    look: async () => (await running(name)).map(endpointOf),
    pauseMs: LOOK_EVERY_MS,
  });
  const untilServed = (name: string, count: number) => untilReplicasServe(name, directoryOf(name), count);

  const containers = (name?: string, which?: 'running') =>
    findContainers(bed, [name === undefined ? LABEL : `${LABEL}=${name}`], which);

  const deploy = async (name: string, replicas: number): Promise<Kept> => {
    const made = await docker.createService(serviceSpec(name, replicas));
    const service = docker.getService(made.id);
    let current = replicas;
    await untilServed(name, replicas);
    return {
      directory: () => directoryOf(name),
      runningContainers: async () => (await containers(name, 'running')).length,
      scale: async (count) => {
        const seen = (await service.inspect()) as { Version: { Index: number } };
        await service.update({ ...serviceSpec(name, count), version: seen.Version.Index });
        if (count > current) await untilServed(name, count);
        else {
          await until(`${count} containers are left`, async () => (await containers(name)).length === count, {
            pauseMs: 50,
          });
        }
        current = count;
      },
      killAndRecover: async () => {
        const [victim] = await running(name);
        const containerId = victim?.Status.ContainerStatus?.ContainerID;
        if (victim === undefined || containerId === undefined) throw new Error('nothing runs');
        const { docker: victims } = engineOf(victim);
        return {
          servesMs: await timed(async () => {
            await victims.getContainer(containerId).kill();
            await until(
              'another task serves',
              async () => {
                const [task] = await running(name);
                if (task === undefined || task.ID === victim.ID) return false;
                return isServing(endpointOf(task));
              },
              { pauseMs: LOOK_EVERY_MS },
            );
          }),
        };
      },
    };
  };

  const removeServices = async (): Promise<void> => {
    const services = await docker.listServices();
    await pooled(services, 8, ({ ID }) => docker.getService(ID).remove());
    await until('the containers are gone', async () => (await containers()).length === 0, {
      pauseMs: 100,
      timeoutMs: MANY_TIMEOUT_MS,
    });
  };

  return {
    id: 'swarm',
    deploy,
    deployMany: async (names, requestsAtOnce) => {
      const asked = new Map<string, Promise<void>>();
      const sent = pooled(names, requestsAtOnce, (name) => docker.createService(serviceSpec(name, 1)));
      const begun = until(
        `${names.length} services run`,
        async () => {
          for (const task of await running()) {
            if (!asked.has(task.ServiceID)) {
              asked.set(task.ServiceID, untilServing(endpointOf(task)));
            }
          }
          return asked.size === names.length;
        },
        { pauseMs: LOOK_AT_MANY_EVERY_MS, timeoutMs: MANY_TIMEOUT_MS },
      );
      await Promise.all([sent, begun]);
      await Promise.all(asked.values());
    },
    untilWhole: () =>
      until('every machine is ready', async () => {
        const nodes = (await docker.listNodes()) as readonly { Status: { State: string } }[];
        return nodes.length === machines.size && nodes.every(({ Status }) => Status.State === 'ready');
      }),
    clear: removeServices,
    leave: async () => {
      await removeServices();
      // The manager last: it hears that the others leave.
      for (const engine of [...bed.engines].reverse()) await engine.docker.swarmLeave({ force: true });
    },
  };
};

/** @returns the engines by the ids that Swarm gives to them */
const formSwarm = async ({ engines }: Bed): Promise<ReadonlyMap<string, DockerEngine>> => {
  const [manager, ...workers] = engines;
  const ownAddress = ({ address }: DockerEngine) => ({
    ListenAddr: `${address}:${SWARM_PORT}`,
    AdvertiseAddr: address,
  });
  await manager.docker.swarmInit(ownAddress(manager));
  const { JoinTokens } = (await manager.docker.swarmInspect()) as { JoinTokens: { Worker: string } };
  for (const worker of workers) {
    await worker.docker.swarmJoin({
      ...ownAddress(worker),
      RemoteAddrs: [`${manager.address}:${SWARM_PORT}`],
      JoinToken: JoinTokens.Worker,
    });
  }
  const ids = await Promise.all(
    engines.map(async (engine) => {
      const { Swarm } = (await engine.docker.info()) as { Swarm: { NodeID: string } };
      return [Swarm.NodeID, engine] as const;
    }),
  );
  return new Map(ids);
};

const portOf = (task: RunningTask): number | undefined => task.Status.PortStatus?.Ports?.[0]?.PublishedPort;
