/**
 * Tells how an operation goes on while a command waits for its end.
 *
 * Invariants: what is told is for people and has no part in how the command ends; it is told when it changes, and comes
 * from the API's streams and watch queries; nothing is left running when the operation has ended; an API that is away for a
 * while is waited for, as the operation goes on without it.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { MicroserviceView, OperationView, ReplicaView } from '../openapi/schemas';

import { segment, type ApiAnswer } from './api-client';
import type { Invocation } from './command';
import { PATIENCE, patiently } from './patience';
import { count } from './words';

/** For how long one watch query waits; then it is asked again. */
const WATCH_MS = 60_000;
/** Many replicas change together. */
const LOOK_GAP_MS = 500;
/** Of a large plan nobody reads more while it is being done. */
const MAX_STEPS = 12;

type Waiting = Pick<Invocation, 'api' | 'note' | 'warn'>;

/** @returns the steps that have not been told, and how many more there are */
const stepsInWords = (steps: readonly string[]): readonly string[] => {
  const left = steps.length - MAX_STEPS;
  return left <= 0
    ? steps
    : [...steps.slice(0, MAX_STEPS), `… and ${left} more ${left === 1 ? 'step' : 'steps'}`];
};

/** What has been told already, also before the API was away. */
interface Told {
  readonly steps: Set<string>;
  words: string;
  replicas: string;
}

/** What it says of itself, and its steps as they are planned. */
const tellOperation = async (
  { api, note }: Waiting,
  id: string,
  told: Told,
  signal: AbortSignal,
): Promise<void> => {
  const path = `/v1/operations/${encodeURIComponent(id)}/follow`;
  for await (const { plan, message, state, final, microservice } of api.follow<OperationView>(path, signal)) {
    // How it has ended is the command's own to say.
    if (final) return;
    const steps = plan.filter((step) => !told.steps.has(step));
    for (const step of steps) told.steps.add(step);
    for (const line of stepsInWords(steps)) note(`  ${line}`);
    const hint = state === 'paused' ? ` (containeros promote, resume or abort ${microservice})` : '';
    const words = message === '' ? '' : `${message}${hint}`;
    if (words !== told.words && words !== '') note(words);
    told.words = words;
  }
};

const replicasInWords = (
  { release, scale }: OperationView,
  replicas: readonly ReplicaView[],
  isDaemon: boolean,
): string => {
  const own = replicas.filter((replica) => replica.release === release);
  const healthy = own.filter((replica) => replica.healthy).length;
  const states = new Map<string, number>();
  for (const { healthy: isHealthy, state } of own) {
    if (!isHealthy) states.set(state, (states.get(state) ?? 0) + 1);
  }
  const others = replicas.length - own.length;
  const wanted =
    isDaemon || healthy > scale
      ? `${count(healthy, 'replica')} healthy${isDaemon ? '' : `, ${scale} wanted`}`
      : `${healthy} of ${count(scale, 'replica')} healthy`;
  return [
    `v${release}: ${wanted}`,
    ...[...states].map(([state, number]) => `${number} ${state.replaceAll('_', '-')}`),
    ...(others === 0 ? [] : [`${others} of other releases`]),
  ].join(', ');
};

/** How many replicas it has so far. */
const tellReplicas = async (
  { api, note }: Waiting,
  operation: OperationView,
  told: Told,
  signal: AbortSignal,
): Promise<void> => {
  const path = `/v1/microservices/${segment(operation.microservice)}`;
  const { value } = await api.call<MicroserviceView>('GET', path, { signal });
  const isDaemon = value.specification.daemon === true;
  let index: string | undefined;
  while (!signal.aborted) {
    const since = index === undefined ? '' : `?watch=${index}&timeout=${WATCH_MS}ms`;
    const answer = await api.call<{ readonly items: readonly ReplicaView[] }>(
      'GET',
      `${path}/replicas${since}`,
      { waitMs: WATCH_MS, signal },
    );
    const words = replicasInWords(operation, answer.value.items, isDaemon);
    if (words !== told.replicas) note(words);
    told.replicas = words;
    // Without it there is nothing to wait by.
    if (answer.index === undefined) return;
    ({ index } = answer);
    await delay(LOOK_GAP_MS, undefined, { signal });
  }
};

/**
 * Waits until the operation has ended, and tells meanwhile how it goes.
 *
 * @returns the operation as it is then; not final when `waitMs` have passed
 * @throws {CommandError} with what it failed for, or was rolled back for
 */
export const waitTelling = async (
  waiting: Waiting,
  operation: OperationView,
  waitMs: number,
): Promise<ApiAnswer<OperationView>> => {
  const { api, note, warn } = waiting;
  const { id, kind, microservice, release, scale } = operation;
  note(`${kind} of ${microservice} v${release} at scale ${scale} is under way (${id}).`);
  const told: Told = { steps: new Set(), words: '', replicas: '' };
  const until = performance.now() + waitMs;
  const waitOnce = async (): Promise<ApiAnswer<OperationView>> => {
    const abort = new AbortController();
    // That it cannot be told how it goes fails nothing.
    const telling = Promise.allSettled([
      tellOperation(waiting, id, told, abort.signal),
      tellReplicas(waiting, operation, told, abort.signal),
    ]);
    try {
      const leftSeconds = Math.max(1, Math.ceil((until - performance.now()) / 1_000));
      const path = `/v1/operations/${encodeURIComponent(id)}?wait=${leftSeconds}s`;
      return await api.call<OperationView>('GET', path, { waitMs: leftSeconds * 1_000 });
    } finally {
      abort.abort();
      await telling;
    }
  };
  for (;;) {
    const answer = await patiently(waitOnce, PATIENCE, warn, {
      goesOn: `The ${kind} of ${microservice}`,
      again: `containeros releases ${microservice} tells how it has ended`,
    });
    // An API that is being stopped answers before the end.
    if (answer.value.final || performance.now() >= until) return answer;
    await delay(LOOK_GAP_MS);
  }
};
