// The whole truth about an installation, from three witnesses that must agree: its API, Docker, and Consul.
// Invariant: nothing lost, nothing doubled, nothing left over; whatever a failed test did before.
import type Docker from 'dockerode';
import { LABEL } from '../../contracts/docker';
import { KV_PREFIX, isFolderKvKey } from '../../contracts/kv';
import type { MicroserviceView, ReplicaView } from '../../openapi/schemas';
import type { Instance } from './instance';
import { connects, microservices, registeredIds, replicas, type TestBed } from './product';
import { eventually } from './wait';

/** Waits until everything is as desired, and says what is not if it does not come to be. */
export async function assertConverged(bed: TestBed, timeoutMs = 30_000): Promise<void> {
  await eventually(
    async () => {
      const problems = await findProblems(bed);
      if (problems.length > 0) throw new Error(problems.join('\n'));
    },
    { timeoutMs, intervalMs: 100, describe: 'what runs is what is desired, and nothing else' },
  );
}

async function findProblems(bed: TestBed): Promise<readonly string[]> {
  const { instance } = bed;
  const [wanted, observed] = await Promise.all([microservices(instance), replicas(instance)]);
  const known = new Set(observed.map(({ id }) => id));
  const ports = observed.flatMap((each) => each.ports);
  const addresses = ports.filter(({ protocol }) => protocol === 'tcp').map(({ address }) => address);
  const answers = await Promise.all(addresses.map((address) => connects(instance, address)));
  return [
    ...apiProblems(wanted, observed),
    ...(await dockerProblems(bed.engine.docker, instance.clusterId(), observed)),
    ...(await consulProblems(
      bed,
      known,
      ports.map(({ serviceId }) => serviceId),
    )),
    ...addresses.filter((_, i) => answers[i] !== true).map((address) => `nothing answers at ${address}`),
  ];
}

/** What the API's own words contradict: a scale that is not reached, a replica of nobody, an address given twice. */
export function apiProblems(
  wanted: readonly MicroserviceView[],
  observed: readonly ReplicaView[],
): readonly string[] {
  const problems: string[] = [];
  for (const { name, scale, release, state, replicas: counts } of wanted) {
    if (state !== 'steady') problems.push(`${name} is ${state}`);
    const running = observed.filter(
      (each) =>
        each.microservice === name && each.release === release && each.state === 'running' && each.healthy,
    );
    if (running.length !== scale) problems.push(`${name}: ${running.length} of ${scale} replicas run`);
    if (counts.running !== scale) problems.push(`${name}: the API counts ${JSON.stringify(counts)}`);
  }
  const names = new Set(wanted.map(({ name }) => name));
  for (const { id, microservice, state, reason } of observed) {
    if (!names.has(microservice)) problems.push(`replica ${id} of ${microservice}, which is not there`);
    if (state !== 'running') problems.push(`replica ${id} is ${state}: ${reason ?? 'no reason given'}`);
  }
  if (new Set(observed.map(({ id }) => id)).size !== observed.length)
    problems.push('the API shows a replica twice');
  const addresses = observed
    .flatMap(({ ports }) => ports)
    .filter(({ protocol }) => protocol === 'tcp')
    .map(({ address }) => address);
  if (new Set(addresses).size !== addresses.length) problems.push(`an address twice: ${addresses.join(' ')}`);
  return problems;
}

/**
 * What one engine has too much, too little, or not running.
 *
 * @param observed the replicas that it should have
 */
export async function dockerProblems(
  docker: Docker,
  clusterId: string,
  observed: readonly ReplicaView[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  // What is observed is of today's containers: an engine that came back has started them again.
  for (const { containerId, startedAt } of observed.flatMap(({ containers }) => containers)) {
    const now = await docker.getContainer(containerId).inspect();
    const actual = new Date(now.State.StartedAt).toISOString();
    if (actual !== startedAt) problems.push(`${now.Name} was started at ${actual}, not at ${startedAt}`);
  }
  const label = [`${LABEL.cluster}=${clusterId}`];
  const all = await docker.listContainers({ all: true, filters: JSON.stringify({ label }) });
  const known = new Set(observed.map(({ id }) => id));
  const found = new Map<string, Set<string>>();
  for (const { Labels, State, Names } of all) {
    const replica = Labels[LABEL.replica] ?? '(no replica)';
    const container = Labels[LABEL.container] ?? `(${Labels[LABEL.role]})`;
    const containers = found.get(replica) ?? new Set();
    if (containers.has(container)) problems.push(`Docker has ${container} of ${replica} twice`);
    found.set(replica, containers.add(container));
    if (!known.has(replica)) problems.push(`Docker has ${Names.join()}, which nobody wants`);
    if (State !== 'running') problems.push(`${Names.join()} is ${State}`);
  }
  for (const { id, containers: wanted } of observed) {
    const containers = [...(found.get(id) ?? [])].filter((each) => !each.startsWith('('));
    if (containers.length !== wanted.length)
      problems.push(`Docker has ${containers.length} of ${wanted.length} of ${id}`);
  }
  return problems;
}

async function consulProblems(
  { instance }: TestBed,
  known: ReadonlySet<string>,
  serviceIds: readonly string[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  const registered = await registeredIds(instance);
  const wanted = new Set(serviceIds);
  for (const id of registered)
    if (!wanted.has(id)) problems.push(`Consul has the service ${id}, which is gone`);
  for (const id of wanted) if (!registered.includes(id)) problems.push(`Consul has no service ${id}`);
  const checks =
    await instance.consul<Record<string, { ServiceID: string; Status: string; Output: string }>>(
      '/v1/agent/checks',
    );
  for (const { ServiceID, Status, Output } of Object.values(checks)) {
    if (wanted.has(ServiceID) && Status !== 'passing') problems.push(`${ServiceID} is ${Status}: ${Output}`);
  }
  problems.push(...(await documentProblems(instance, known)));
  return problems;
}

/** Documents of replicas that nobody knows. */
export async function documentProblems(
  instance: Instance,
  known: ReadonlySet<string>,
): Promise<readonly string[]> {
  const keys = await instance.consul<string[]>(`/v1/kv/${KV_PREFIX.replicas}?keys`).catch((error: Error) => {
    if (error.message.startsWith('Consul: 404')) return []; // there is none
    throw error;
  });
  return keys
    .filter((key) => !isFolderKvKey(key) && !known.has(key.split('/').at(-1) ?? ''))
    .map((key) => `Consul's KV has ${key}, which the API does not show`);
}
