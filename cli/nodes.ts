/** Commands about nodes: how they do, and taking them out of service. */

import type { NodeView, ReplicaView } from '../openapi/schemas';

import { segment, type ApiAnswer } from './api-client';
import type { Command, Invocation } from './command';
import {
  bytesInWords,
  count,
  fromNowInWords,
  numberInWords,
  pairs,
  shareInWords,
  table,
  timeInWords,
} from './words';

export const nodePath = (id: string): string => `/v1/nodes/${segment(id)}`;

const stateOf = ({ health }: NodeView): string => (health === 'lost' ? 'down' : 'up');

const healthInWords = ({ health, reasons }: NodeView): string =>
  reasons.length === 0 ? health : `${health}: ${reasons.join('; ')}`;

/** What a node that is down used when it was last heard says nothing of now. */
const cpuInWords = (node: NodeView): string =>
  stateOf(node) === 'down' ? `- of ${node.cpus}` : `${Math.round(node.cpuPercent)}% of ${node.cpus}`;

const memoryInWords = (node: NodeView): string =>
  stateOf(node) === 'down'
    ? `- of ${bytesInWords(node.memoryBytes)}`
    : shareInWords(node.memoryBytes - node.memoryAvailableBytes, node.memoryBytes);

const NO_NODES =
  'There are no nodes. The machine that runs containeros up becomes the first one within seconds.';

const nodeTable = (nodes: readonly NodeView[]): string =>
  table(
    [
      { title: 'NAME' },
      { title: 'ADDRESS' },
      { title: 'STATE' },
      { title: 'AVAILABILITY' },
      { title: 'REPLICAS', align: 'right' },
      { title: 'CPU', align: 'right' },
      { title: 'MEMORY', align: 'right' },
      { title: 'HEALTH' },
    ],
    nodes.map((node) => [
      node.id,
      node.address,
      stateOf(node),
      node.availability,
      String(node.replicas),
      cpuInWords(node),
      memoryInWords(node),
      healthInWords(node),
    ]),
  );

const replicaTable = (replicas: readonly ReplicaView[]): string =>
  table(
    [
      { title: 'REPLICA' },
      { title: 'MICROSERVICE' },
      { title: 'RELEASE', align: 'right' },
      { title: 'RESTARTS', align: 'right' },
      { title: 'STATE' },
    ],
    replicas.map(({ id, microservice, release, restartCount, state, reason }) => [
      id,
      microservice,
      `v${release}`,
      String(restartCount),
      `${state.replaceAll('_', '-')}${reason === undefined ? '' : `: ${reason}`}`,
    ]),
  );

const AVAILABILITY: Readonly<Record<NodeView['availability'], string>> = {
  active: 'active',
  cordoned: 'cordoned: it keeps what it has and takes nothing new',
  draining: 'draining: what it has moves elsewhere',
};

const nodeInWords = (node: NodeView, replicas: readonly ReplicaView[], nowMs: number): string => {
  const isUp = stateOf(node) === 'up';
  const labels = Object.entries(node.labels).map(([key, value]) => `${key}=${value}`);
  const inUse = (text: string) => (isUp ? `${text} in use` : text);
  const facts = pairs([
    ['Address', node.address],
    [
      'State',
      isUp && !node.connected ? 'up, but its worker has no stream to this API: no logs' : stateOf(node),
    ],
    ['Availability', AVAILABILITY[node.availability] ?? node.availability],
    ['Health', healthInWords(node)],
    ['CPU', `${inUse(cpuInWords(node))}, ${numberInWords(node.cpusReserved)} reserved`],
    ['Memory', `${inUse(memoryInWords(node))}, ${bytesInWords(node.memoryReservedBytes)} reserved`],
    ['Disk', `${bytesInWords(node.diskFreeBytes)} free of ${bytesInWords(node.diskBytes)}`],
    ['ContainerOS', node.containerosVersion ?? 'unknown'],
    ['Docker', `${node.dockerVersion} on ${node.architecture}`],
    ['Labels', labels.length === 0 ? 'none' : labels.join(', ')],
    ['Images', String(node.images.length)],
    ['Reported', `${timeInWords(node.updatedAt)}, ${fromNowInWords(Date.parse(node.updatedAt), nowMs)}`],
  ]);
  const runs =
    replicas.length === 0
      ? 'It has no replicas.'
      : `${count(replicas.length, 'replica')}:\n\n${replicaTable(replicas)}`;
  return `Node ${node.id}\n\n${facts}\n\n${runs}`;
};

/** What a node has. */
export const replicasOn = async (api: Invocation['api'], id: string): Promise<readonly ReplicaView[]> =>
  (await api.list<ReplicaView>(`/v1/replicas?node=${encodeURIComponent(id)}`)).value.items;

/** Asks for what is said of a node, and answers with the node. */
export const setNode = (
  { api, argument }: Invocation,
  action: 'cordon' | 'uncordon' | 'drain',
): Promise<ApiAnswer<NodeView>> => api.call('POST', `${nodePath(argument('NODE'))}/${action}`);

const list: Command = {
  name: 'nodes',
  arguments: [],
  flags: [],
  summary: 'Show all nodes: state, availability, load and health.',
  run: async ({ api }) => {
    const answer = await api.list<NodeView>('/v1/nodes');
    const { items } = answer.value;
    return { answer, words: () => (items.length === 0 ? NO_NODES : nodeTable(items)) };
  },
};

const show: Command = {
  name: 'node',
  arguments: ['NODE'],
  flags: [],
  summary: 'Show one node, and what runs on it.',
  run: async ({ api, argument, nowMs }) => {
    const answer = await api.call<NodeView>('GET', nodePath(argument('NODE')));
    const { value } = answer;
    return { answer, words: async () => nodeInWords(value, await replicasOn(api, value.id), nowMs()) };
  },
};

const cordon: Command = {
  name: 'cordon',
  arguments: ['NODE'],
  flags: [],
  summary: 'Keep what a node has, and give it nothing new.',
  run: async (invocation) => {
    const answer = await setNode(invocation, 'cordon');
    const { id } = answer.value;
    return {
      answer,
      words: () =>
        `Node ${id} is cordoned: it keeps what it has and takes nothing new. containeros uncordon ${id} ends that.`,
    };
  },
};

const uncordon: Command = {
  name: 'uncordon',
  arguments: ['NODE'],
  flags: [],
  summary: 'Let a node take replicas again; also ends a drain.',
  run: async (invocation) => {
    const answer = await setNode(invocation, 'uncordon');
    return { answer, words: () => `Node ${answer.value.id} is active: it takes replicas again.` };
  },
};

const remove: Command = {
  name: 'remove',
  arguments: ['NODE'],
  flags: [{ name: 'force', help: 'Remove it although it is up or still has replicas.' }],
  summary: 'Take a node out of the cluster for good.',
  details: [
    'Drain it first, so that what it has starts elsewhere before it stops here.',
    'A removed node comes back only by joining again.',
  ],
  run: async ({ api, argument, isSet }) => {
    const id = argument('NODE');
    const answer = await api.call('DELETE', `${nodePath(id)}${isSet('force') ? '?force=true' : ''}`);
    return { answer, words: () => `Node ${id} is removed from the cluster.` };
  },
};

export const NODE_COMMANDS: readonly Command[] = [list, show, cordon, uncordon];
export const REMOVE_COMMAND = remove;
