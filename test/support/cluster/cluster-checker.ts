// The whole truth about a cluster, from witnesses that must agree: the API, the Docker Engine of every node, Consul, and
// whoever asks the replicas for a page.
// Invariant: after any fault, and in time, as many replicas serve as are desired, each once; nothing is left over on any
// node or in Consul; and nothing is still being done.
import { SERVICE_META } from '../../../contracts/docker';
import type { MicroserviceView, NodeView, OperationView, ReplicaView } from '../../../openapi/schemas';
import { apiProblems, dockerProblems, documentProblems } from '../checker';
import { microservices, page, read, replicas } from '../product';
import { eventually } from '../wait';
import type { Cluster } from './cluster';
import type { ClusterNode } from './cluster-node';
import { saysClockIsOff } from './member';

export interface ClusterCheck {
  readonly timeoutMs?: number;
  /**
   * Names of nodes that are cut off or down: what runs there is not looked at, nor what is remembered of it, but nothing
   * of it may count as serving.
   */
  readonly without?: readonly string[];
  /** Names of nodes whose clock is off, which they have to say. */
  readonly clocksOff?: readonly string[];
}

const TIMEOUT_MS = 60_000;

/** Waits until everything is as desired in the whole cluster, and says what is not if it does not come to be. */
export async function assertClusterConverged(cluster: Cluster, check: ClusterCheck = {}): Promise<void> {
  await eventually(
    async () => {
      const problems = await findClusterProblems(cluster, check);
      if (problems.length > 0) throw new Error(problems.join('\n'));
    },
    {
      timeoutMs: check.timeoutMs ?? TIMEOUT_MS,
      intervalMs: 200,
      describe: 'what runs in the cluster is what is desired, and nothing else',
    },
  );
}

/** One look; empty when all is well. */
export async function findClusterProblems(
  cluster: Cluster,
  { without = [], clocksOff = [] }: Omit<ClusterCheck, 'timeoutMs'> = {},
): Promise<readonly string[]> {
  const { instance } = cluster;
  const present = cluster.nodes.filter(({ name }) => !without.includes(name));
  const [wanted, observed, { items: nodes }, { items: operations }] = await Promise.all([
    microservices(instance),
    replicas(instance),
    read<{ items: NodeView[] }>(instance, '/v1/nodes'),
    read<{ items: OperationView[] }>(instance, '/v1/operations?limit=1000'),
  ]);
  const here = observed.filter(({ node }) => !without.includes(node));
  const perNode = await Promise.all(
    present.map(async (node) => {
      const mine = here.filter((each) => each.node === node.name);
      const found = [
        ...(await dockerProblems(node.engine.docker, instance.clusterId(), mine)),
        ...(await consulProblems(cluster, node, mine)),
      ];
      return found.map((problem) => `${node.name}: ${problem}`);
    }),
  );
  return [
    ...nodeProblems(nodes, present, without, clocksOff),
    ...apiProblems(wanted, here),
    ...perNode.flat(),
    ...(await documentProblems(instance, new Set(observed.map(({ id }) => id)))),
    ...(await Promise.all(wanted.map((each) => servingProblems(cluster, each, here)))).flat(),
    ...operations
      .filter(({ final }) => !final)
      .map(({ id, state, message }) => `operation ${id} is ${state}: ${message}`),
  ];
}

function nodeProblems(
  nodes: readonly NodeView[],
  present: readonly ClusterNode[],
  without: readonly string[],
  clocksOff: readonly string[],
): readonly string[] {
  const problems: string[] = [];
  for (const { name } of present) {
    const shown = nodes.filter(({ id }) => id === name);
    if (shown.length !== 1) problems.push(`the API shows ${name} ${shown.length} times`);
    for (const node of shown) {
      const { health, connected, reasons } = node;
      const isAsItIs = clocksOff.includes(name) ? saysClockIsOff(node) : health === 'healthy';
      if (!isAsItIs) problems.push(`${name} is ${health}: ${reasons.join('; ')}`);
      if (!connected) problems.push(`${name} is not connected`);
    }
  }
  for (const { id, health } of nodes) {
    if (without.includes(id) ? health !== 'lost' : !present.some(({ name }) => name === id))
      problems.push(`the API shows ${id} as ${health}`);
  }
  return problems;
}

interface ServiceOfNode {
  readonly ID: string;
  readonly Meta: Readonly<Record<string, string>>;
}

interface CheckOfNode {
  readonly ServiceID: string;
  readonly Status: string;
  readonly Output: string;
}

/** What the catalogue says of one node, which is what everybody who looks for a service is told. */
async function consulProblems(
  { instance }: Cluster,
  { name }: ClusterNode,
  mine: readonly ReplicaView[],
): Promise<readonly string[]> {
  const [{ Services: services }, checks] = await Promise.all([
    instance.consul<{ readonly Services: readonly ServiceOfNode[] | null }>(
      `/v1/catalog/node-services/${name}`,
    ),
    instance.consul<readonly CheckOfNode[]>(`/v1/health/node/${name}`),
  ]);
  const registered = (services ?? [])
    .filter(({ Meta }) => Meta[SERVICE_META.replica] !== undefined)
    .map(({ ID }) => ID);
  const wanted = mine.flatMap(({ ports }) => ports).map(({ serviceId }) => serviceId);
  return [
    ...registered
      .filter((id) => !wanted.includes(id))
      .map((id) => `Consul has the service ${id}, which is gone`),
    ...wanted.filter((id) => !registered.includes(id)).map((id) => `Consul has no service ${id}`),
    ...checks
      .filter(({ Status }) => Status !== 'passing')
      .map(({ ServiceID, Status, Output }) => `${ServiceID || 'the node'} is ${Status}: ${Output}`),
  ];
}

interface HealthEntry {
  readonly Service: {
    readonly ID: string;
    readonly Address: string;
    readonly Port: number;
    readonly Meta: Readonly<Record<string, string>>;
  };
}

/** Whether whoever asks Consul is led to as many replicas as are desired, and each of those answers with a page. */
async function servingProblems(
  { instance }: Cluster,
  { name, scale }: MicroserviceView,
  here: readonly ReplicaView[],
): Promise<readonly string[]> {
  const ports = here
    .filter(({ microservice }) => microservice === name)
    .flatMap(({ id, ports: its }) => its.map((port) => ({ ...port, replica: id })))
    .filter(({ protocol }) => protocol === 'tcp');
  if (ports.length === 0) return []; // it exposes nothing, or runs nothing, which others tell
  const found = await instance.consul<readonly HealthEntry[]>(
    `/v1/health/service/${name.toLowerCase()}?passing=1`,
  );
  const problems: string[] = [];
  const passing = new Set(found.map(({ Service }) => Service.Meta[SERVICE_META.replica]));
  if (passing.size !== scale) problems.push(`${name}: Consul has ${passing.size} of ${scale} passing`);
  const serviceIds = new Set(ports.map(({ serviceId }) => serviceId));
  for (const { Service } of found)
    if (!serviceIds.has(Service.ID))
      problems.push(`${name}: Consul leads to ${Service.ID}, which is not there`);

  const answers = await Promise.all(
    ports.map(async ({ address, replica }) => ({
      address,
      replica,
      answer: await page(instance, address).catch(String),
    })),
  );
  const byAnswer = new Map<string, string>();
  for (const { address, replica, answer } of answers) {
    if (!answer.startsWith('200 ')) problems.push(`${name}: ${replica} at ${address} answers ${answer}`);
    const other = byAnswer.get(answer);
    if (other !== undefined && other !== replica)
      problems.push(`${name}: ${other} and ${replica} are one container: ${answer}`);
    byAnswer.set(answer, replica);
  }
  return problems;
}
