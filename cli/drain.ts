/**
 * `drain`: asks for it, and with --wait follows it until the node is drained.
 *
 * Invariants: it waits by the API's watch queries, and looks only when something has changed; the drain goes on
 * whatever becomes of this process; a drain that cannot end by itself is not waited for.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { MicroserviceView, NodeView, ReplicaView } from '../openapi/schemas';

import type { ApiAnswer, ApiClient, ListOf } from './api-client';
import { CommandError, type Command, type Invocation } from './command';
import { nodePath, replicasOn, setNode } from './nodes';
import { PATIENCE, patiently, type Patience } from './patience';
import { count, listInWords } from './words';

/** For how long one watch query waits; then it is asked again. */
const WATCH_MS = 60_000;
/** In a busy cluster, many changes are looked at together. */
const LOOK_GAP_MS = 200;

interface Look {
  readonly node: ApiAnswer<NodeView>;
  /** Of the microservices that have replicas on the node. */
  readonly microservices: ApiAnswer<ListOf<MicroserviceView>>;
  /** What has to leave: what has ended may stay. */
  readonly left: readonly ReplicaView[];
}

const indexOf = ({ index }: ApiAnswer<unknown>): string => {
  if (index !== undefined) return index;
  throw new CommandError(
    'unavailable',
    'The API did not say which state of the cluster it showed, so its changes cannot be followed. Something between here and the API takes headers away.',
  );
};

const microservicesOn = (id: string) => `/v1/microservices?node=${encodeURIComponent(id)}`;

/** Replicas are read last, so that the indexes are of before: what changes meanwhile is noticed. */
const lookAt = async (api: ApiClient, id: string): Promise<Look> => {
  const [node, microservices] = await Promise.all([
    api.call<NodeView>('GET', nodePath(id)),
    api.list<MicroserviceView>(microservicesOn(id)),
  ]);
  const left = (await replicasOn(api, id)).filter(({ state }) => state !== 'exited');
  return { node, microservices, left };
};

/** Resolves when something has changed of the node, or of any microservice, since the look. */
const changeSince = async (api: ApiClient, id: string, { node, microservices }: Look): Promise<void> => {
  const abort = new AbortController();
  const watch = (path: string, index: string) =>
    api.call('GET', `${path}watch=${index}&timeout=${WATCH_MS}ms`, {
      waitMs: WATCH_MS,
      signal: abort.signal,
    });
  try {
    await Promise.race([
      watch(`${nodePath(id)}?`, indexOf(node)),
      // All microservices wake it, so the answer is kept small.
      watch(`${microservicesOn(id)}&limit=1&`, indexOf(microservices)),
    ]);
  } finally {
    abort.abort();
  }
};

/** Volumes with a name are on their node for good; daemons leave nevertheless, because each node has its own. */
const staysWithItsData = ({ specification, state, scale }: MicroserviceView): boolean =>
  specification.daemon !== true &&
  state !== 'removing' &&
  scale > 0 &&
  Object.values(specification.containers).some(({ volumes = [] }) =>
    volumes.some((volume) => 'name' in volume),
  );

const isDaemon = ({ specification }: MicroserviceView): boolean => specification.daemon === true;

const byName = (names: readonly string[]): string =>
  listInWords(
    [...new Set(names)].sort().map((name) => {
      const replicas = names.filter((one) => one === name).length;
      return replicas === 1 ? name : `${replicas} of ${name}`;
    }),
  );

interface Progress {
  readonly summary: string;
  /** What stands in the way, a line each. */
  readonly troubles: readonly string[];
}

/** @throws {CommandError} `conflict` when nothing more will leave */
const progressOf = (id: string, { node, microservices, left }: Look): Progress => {
  const known = new Map(microservices.value.items.map((microservice) => [microservice.name, microservice]));
  const owners = [...new Set(left.map(({ microservice }) => microservice))].sort().flatMap((name) => {
    const owner = known.get(name);
    return owner === undefined ? [] : [owner];
  });
  const staying = owners.filter(staysWithItsData).map(({ name }) => name);
  const isStuck = left.every(({ microservice }) => {
    const owner = known.get(microservice);
    return owner !== undefined && (staysWithItsData(owner) || isDaemon(owner));
  });
  if (staying.length > 0 && isStuck) {
    throw new CommandError(
      'conflict',
      `Node ${id} cannot be drained: ${listInWords(staying)} ${staying.length === 1 ? 'keeps its' : 'keep their'} data in volumes there, so ${staying.length === 1 ? 'it stays' : 'they stay'}. All else that can leave has left. Remove ${staying.length === 1 ? 'that microservice' : 'those microservices'}, or let the node go on with containeros uncordon ${id}.`,
    );
  }
  const troubles = owners.flatMap((owner) => {
    if (staysWithItsData(owner)) return [`  ${owner.name} keeps its data in volumes there, and stays.`];
    return owner.state === 'failed' ? [`  ${owner.name}: ${owner.message}`] : [];
  });
  if (node.value.health === 'lost') {
    troubles.unshift(
      `  The node does not answer. What it had is replaced elsewhere, and leaves it when it is back; containeros remove ${id} --force gives it up.`,
    );
  }
  const names = left.map(({ microservice }) => microservice);
  const verb = left.length === 1 ? 'has' : 'have';
  const summary = `${count(left.length, 'replica')} still ${verb} to leave ${id}: ${byName(names)}.`;
  return { summary, troubles };
};

/** Tells what is news: a microservice that tries again and again says the same each time. */
const createTeller = (tell: (line: string) => void): ((progress: Progress) => void) => {
  let told: Progress = { summary: '', troubles: [] };
  return ({ summary, troubles }) => {
    const before = summary === told.summary ? told.troubles : [];
    const isNews = summary !== told.summary || troubles.some((trouble) => !before.includes(trouble));
    if (isNews) tell([summary, ...troubles].join('\n'));
    told = { summary, troubles: [...new Set([...before, ...troubles])] };
  };
};

/** Survives an API that is away for a while. */
const follow = async (
  { api, tell, warn }: Invocation,
  id: string,
  patience: Patience,
): Promise<ApiAnswer<NodeView>> => {
  const tellNews = createTeller(tell);
  /** @returns the node, when it is drained */
  const lookOnce = async (): Promise<ApiAnswer<NodeView> | undefined> => {
    const look = await lookAt(api, id);
    const { node, left } = look;
    // It was read before the replicas, and may count the last one still.
    if (left.length === 0) return await api.call<NodeView>('GET', nodePath(id));
    if (node.value.availability !== 'draining') {
      throw new CommandError(
        'conflict',
        `Node ${id} is ${node.value.availability} now: somebody ended the drain. ${count(left.length, 'replica')} ${left.length === 1 ? 'is' : 'are'} still there.`,
      );
    }
    tellNews(progressOf(id, look));
    await changeSince(api, id, look);
    await delay(LOOK_GAP_MS);
    return undefined;
  };
  for (;;) {
    const node = await patiently(lookOnce, patience, warn, {
      goesOn: `The drain of ${id}`,
      again: `containeros drain ${id} --wait follows it again`,
    });
    if (node !== undefined) return node;
  }
};

const drained = (id: string): string => `Node ${id} is drained: no replica is left on it.`;

export const drainCommand = (patience = PATIENCE): Command => ({
  name: 'drain',
  arguments: ['NODE'],
  flags: [{ name: 'wait', help: 'Follow it until the node is drained, and say what still has to leave.' }],
  summary: 'Move what a node has elsewhere, and give it nothing new.',
  details: [
    'Each replica starts elsewhere before it stops here. One that finds no room elsewhere goes on where it is.',
    'The drain goes on by itself, also when this command has ended.',
  ],
  run: async (invocation) => {
    const asked = await setNode(invocation, 'drain');
    const { id } = asked.value;
    if (invocation.isSet('wait')) {
      const answer = await follow(invocation, id, patience);
      return { answer, words: () => drained(id) };
    }
    const inWords = async (): Promise<string> => {
      const left = (await replicasOn(invocation.api, id)).filter(({ state }) => state !== 'exited');
      if (left.length === 0) return drained(id);
      const names = byName(left.map(({ microservice }) => microservice));
      return `Node ${id} is being drained: ${count(left.length, 'replica')} ${left.length === 1 ? 'has' : 'have'} to leave (${names}). containeros drain ${id} --wait follows it.`;
    };
    return { answer: asked, words: inWords };
  },
});
