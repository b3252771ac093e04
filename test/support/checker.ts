// The whole truth about an installation, from three witnesses that must agree: its API, Docker, and Consul.
// Invariant: nothing lost, nothing doubled, nothing left over; whatever a failed test did before.
import { LABEL } from '../../contracts/docker';
import { KV_PREFIX } from '../../contracts/kv';
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
  const known = new Set(observed.map(({ id }) => id));
  if (known.size !== observed.length) problems.push('the API shows a replica twice');
  const ports = observed.flatMap((each) => each.ports);

  // What is observed is of today's containers: an engine that came back has started them again.
  for (const { containerId, startedAt } of observed.flatMap(({ containers }) => containers)) {
    const now = await bed.engine.docker.getContainer(containerId).inspect();
    const actual = new Date(now.State.StartedAt).toISOString();
    if (actual !== startedAt) problems.push(`${now.Name} was started at ${actual}, not at ${startedAt}`);
  }

  problems.push(
    ...(await dockerProblems(
      bed,
      known,
      new Map(observed.map(({ id, containers }) => [id, containers.length])),
    )),
    ...(await consulProblems(
      bed,
      known,
      ports.map(({ serviceId }) => serviceId),
    )),
  );

  const addresses = ports.filter(({ protocol }) => protocol === 'tcp').map(({ address }) => address);
  if (new Set(addresses).size !== addresses.length) problems.push(`an address twice: ${addresses.join(' ')}`);
  const answers = await Promise.all(addresses.map((address) => connects(instance, address)));
  addresses.forEach((address, i) => {
    if (answers[i] !== true) problems.push(`nothing answers at ${address}`);
  });
  return problems;
}

async function dockerProblems(
  { engine, instance }: TestBed,
  known: ReadonlySet<string>,
  sizes: ReadonlyMap<string, number>,
): Promise<readonly string[]> {
  const problems: string[] = [];
  const label = [`${LABEL.cluster}=${instance.clusterId()}`];
  const all = await engine.docker.listContainers({ all: true, filters: JSON.stringify({ label }) });
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
  for (const [replica, size] of sizes) {
    const containers = [...(found.get(replica) ?? [])].filter((each) => !each.startsWith('('));
    if (containers.length !== size) problems.push(`Docker has ${containers.length} of ${size} of ${replica}`);
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
  const keys = await instance.consul<string[]>(`/v1/kv/${KV_PREFIX.replicas}?keys`).catch(() => []);
  for (const key of keys) {
    const id = key.split('/').at(-1) ?? '';
    if (!known.has(id)) problems.push(`Consul's KV has ${key}, which the API does not show`);
  }
  return problems;
}
