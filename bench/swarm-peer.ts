// Docker Swarm on the same engine, with one manager that is the only worker.
// Invariant: it is asked for what ContainerOS is asked for: the same image, limits and labels, and a random host port
// for every replica (ports in host mode; the routing mesh needs IPVS in the kernel, which not every machine has).
import type { ServiceSpec } from 'dockerode';
import { releaseSpecOf, type Bed } from './bed';
import { isServing, pooled, timed, until, untilServing, type Deployed, type Peer } from './peer';

const LABEL = 'benchmark';
const MANAGER_PORT = 2377;
const NANO = 1_000_000_000;
/** How often Swarm is asked for its tasks; it has no call that waits for a change of them. */
const LOOK_EVERY_MS = 15;
const LOOK_AT_MANY_EVERY_MS = 100;
const MANY_TIMEOUT_MS = 300_000;

interface RunningTask {
  readonly ID: string;
  readonly ServiceID: string;
  readonly Status: {
    readonly State: string;
    readonly ContainerStatus?: { readonly ContainerID?: string };
    readonly PortStatus?: { readonly Ports?: readonly { readonly PublishedPort?: number }[] };
  };
}

export const createSwarmPeer = async (bed: Bed): Promise<Peer & { leave(): Promise<void> }> => {
  const { docker, address } = bed.engine;
  await docker.swarmInit({ ListenAddr: `${address}:${MANAGER_PORT}`, AdvertiseAddr: address });

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
  const endpointOf = (task: RunningTask): string => `${address}:${portOf(task)}`;

  /** Each replica is asked for a page as soon as Swarm says that it runs. */
  const untilReplicasServe = async (name: string, count: number): Promise<void> => {
    const asked = new Map<string, Promise<void>>();
    await until(
      `${count} replicas of ${name} run`,
      async () => {
        const tasks = await running(name);
        for (const task of tasks) {
          if (!asked.has(task.ID)) asked.set(task.ID, untilServing(endpointOf(task)));
        }
        return tasks.length === count;
      },
      { pauseMs: LOOK_EVERY_MS },
    );
    await Promise.all(asked.values());
  };

  const containers = (name?: string) =>
    docker.listContainers({
      all: true,
      filters: { label: [name === undefined ? LABEL : `${LABEL}=${name}`] },
    });

  const deploy = async (name: string, replicas: number): Promise<Deployed> => {
    const made = await docker.createService(serviceSpec(name, replicas));
    const service = docker.getService(made.id);
    let current = replicas;
    await untilReplicasServe(name, replicas);
    return {
      scale: async (count) => {
        const seen = (await service.inspect()) as { Version: { Index: number } };
        await service.update({ ...serviceSpec(name, count), version: seen.Version.Index });
        if (count > current) await untilReplicasServe(name, count);
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
        if (containerId === undefined) throw new Error('nothing runs');
        return {
          servesMs: await timed(async () => {
            await docker.getContainer(containerId).kill();
            await until(
              'another task serves',
              async () => {
                const [task] = await running(name);
                if (task === undefined || task.ID === victim?.ID) return false;
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
    clear: removeServices,
    leave: async () => {
      await removeServices();
      await docker.swarmLeave({ force: true });
    },
  };
};

const portOf = (task: RunningTask): number | undefined => task.Status.PortStatus?.Ports?.[0]?.PublishedPort;
