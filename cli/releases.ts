/**
 * Commands that change a microservice, and those about its releases.
 *
 * Invariants: what the API only accepted is never called done; a command that waited fails when the change did, also
 * when the release was rolled back and the old one serves.
 */

import { readFile } from 'node:fs/promises';
import { text as readText } from 'node:stream/consumers';

import type { DryRunView } from '../openapi/dry-run-schema';
import type { OperationView, ReleaseView } from '../openapi/schemas';

import { segment, type ApiAnswer } from './api-client';
import { CommandError, type Command, type Flag, type Invocation, type Outcome } from './command';
import { waitTelling } from './progress';
import { whyUnreadable } from './unreadable';
import { count, fromNowInWords, listInWords, table } from './words';

const WAIT_MS = 10 * 60_000;

const WAIT: Flag = {
  name: 'wait',
  help: 'Wait until it is done, 10 minutes at most; fail when it fails or is rolled back.',
};
const DRY_RUN: Flag = { name: 'dry-run', help: 'Only say what would be done.' };

const pathOf = (name: string): string => `/v1/microservices/${segment(name)}`;

const section = (title: string, lines: readonly string[]): readonly string[] =>
  lines.length === 0 ? [] : ['', `${title}:`, ...lines.map((line) => `  ${line}`)];

const hostnameInWords = ({ hostname, change, from }: DryRunView['hostnames'][number]): string =>
  `${hostname} ${change}${from === undefined ? '' : ` from ${from}`}`;

const publicPortInWords = ({ port, protocol, change, from }: DryRunView['publicPorts'][number]): string =>
  `${port}/${protocol} ${change}${from === undefined ? '' : ` from ${from}`}`;

const dryRunInWords = (view: DryRunView): string =>
  [
    view.changesNothing
      ? `Nothing would change: ${view.microservice} is as it would be.`
      : `${view.kind} of ${view.microservice} would ${view.created ? 'make it, with' : 'bring'} v${view.release} at scale ${view.scale}. Nothing was changed.`,
    ...section('Changes', view.diff),
    ...section('Stages', view.stages),
    ...section('Steps', view.plan),
    ...section('Hostnames', view.hostnames.map(hostnameInWords)),
    ...section('Public ports', view.publicPorts.map(publicPortInWords)),
    ...(view.unplaced === 0 ? [] : ['', `${count(view.unplaced, 'replica')} would find no node.`]),
  ].join('\n');

const acceptedInWords = ({ id, kind, microservice, release, state, message }: OperationView): string =>
  state === 'succeeded'
    ? `Done: ${message || `${kind} of ${microservice}`}.`
    : `Accepted: ${kind} of ${microservice} v${release}, as ${id}. It goes on by itself; --wait waits for its end.`;

/** Asks for a change, or for what it would do. */
const change = async (
  { api, isSet, asJson, note, warn }: Invocation,
  method: 'POST' | 'PATCH',
  path: string,
  body: object,
  query: readonly string[] = [],
): Promise<Outcome> => {
  if (isSet('dry-run')) {
    const answer = await api.call<DryRunView>(method, `${path}?${['dryRun=true', ...query].join('&')}`, {
      body,
    });
    return { answer, words: () => dryRunInWords(answer.value) };
  }
  const waits = isSet('wait');
  // Whoever is told how it goes waits for what was accepted; a script waits for its one answer.
  const waitsAtOnce = waits && asJson;
  const until = performance.now() + WAIT_MS;
  const all = [...(waitsAtOnce ? [`wait=${WAIT_MS / 1_000}s`] : []), ...query];
  const accepted: ApiAnswer<OperationView> = await api.call(
    method,
    `${path}${all.length === 0 ? '' : `?${all.join('&')}`}`,
    { body, ...(waitsAtOnce ? { waitMs: WAIT_MS } : {}) },
  );
  // An API that is being stopped answers a script before the end, too.
  const answer =
    waits && !accepted.value.final && performance.now() < until
      ? await waitTelling({ api, note, warn }, accepted.value, until - performance.now())
      : accepted;
  const { id, final } = answer.value;
  if (waits && !final) {
    throw new CommandError(
      'unavailable',
      `${id} has not ended within ${WAIT_MS / 60_000} minutes. It goes on by itself: look at containeros releases, or at GET /v1/operations/${id}.`,
    );
  }
  return { answer, words: () => acceptedInWords(answer.value) };
};

/** @throws {CommandError} `invalid` or `not_found` */
const readSpecification = async (file: string): Promise<object> => {
  let text: string;
  try {
    text = file === '-' ? await readText(process.stdin) : await readFile(file, 'utf8');
  } catch (error) {
    throw new CommandError('not_found', `${file} cannot be read: ${whyUnreadable(error)}.`, {
      cause: error,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CommandError('invalid', `${file} is not JSON: ${(error as Error).message}.`, { cause: error });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new CommandError(
    'invalid',
    `${file} has to hold one JSON object: the specification of a microservice.`,
  );
};

const deploy: Command = {
  name: 'deploy',
  arguments: ['FILE'],
  flags: [
    DRY_RUN,
    WAIT,
    {
      name: 'move-hostnames',
      help: 'Take hostnames and public ports that other microservices have, when the new replicas serve.',
    },
  ],
  summary: 'Make or change a microservice as a JSON file says; - is standard input.',
  run: async (invocation) => {
    const body = await readSpecification(invocation.argument('FILE'));
    const query = invocation.isSet('move-hostnames') ? ['moveHostnames=true'] : [];
    return change(invocation, 'POST', '/v1/microservices', body, query);
  },
};

const scale: Command = {
  name: 'scale',
  arguments: ['NAME', 'REPLICAS'],
  flags: [DRY_RUN, WAIT],
  summary: 'Set how many replicas a microservice has.',
  run: async (invocation) => {
    const text = invocation.argument('REPLICAS');
    if (!/^\d{1,6}$/.test(text)) {
      throw new CommandError('invalid', `REPLICAS must be a whole number like 3, not "${text}".`);
    }
    return change(invocation, 'PATCH', pathOf(invocation.argument('NAME')), { scale: Number(text) });
  },
};

const rollback: Command = {
  name: 'rollback',
  arguments: ['NAME'],
  optionalArguments: ['RELEASE'],
  flags: [DRY_RUN, WAIT],
  summary: 'Go back to the release before that was healthy, or to one like v5.',
  details: ['It runs the same images as then, wherever their tags have gone since.'],
  run: async (invocation) => {
    const text = invocation.optional('RELEASE');
    const [, number] = /^v?([1-9]\d{0,8})$/.exec(text ?? '') ?? [];
    if (text !== undefined && number === undefined) {
      throw new CommandError('invalid', `RELEASE must be a release like v5, not "${text}".`);
    }
    const body = number === undefined ? {} : { toRelease: Number(number) };
    return change(invocation, 'POST', `${pathOf(invocation.argument('NAME'))}/rollback`, body);
  },
};

/** How far the release is that is wanted, for a column. */
const STAGE: Readonly<Record<OperationView['state'], string>> = {
  queued: 'not begun yet',
  running: 'under way',
  paused: 'waiting',
  succeeded: 'not healthy yet',
  failed: 'failed',
  rolled_back: 'failed',
  superseded: 'not healthy yet',
};

const stateOf = ({ current, settled, weight = 0, operation }: ReleaseView): string =>
  [
    ...(current ? ['current'] : []),
    ...(weight > 0 ? [`${weight} % of requests`] : []),
    ...(current && !settled && (weight === 0 || operation?.state === 'paused')
      ? [operation === undefined ? 'not healthy yet' : STAGE[operation.state]]
      : []),
    ...(!current && settled && weight === 0 ? ['healthy before'] : []),
  ].join(', ');

/** What the release that is wanted waits for, or why it failed, and who can do something about it. */
const progressOf = (name: string, { number, weight, operation }: ReleaseView): readonly string[] => {
  if (operation === undefined || operation.message === '') return [];
  // Only one that takes over in stages can be led to its end.
  const next =
    weight !== undefined && operation.state === 'paused'
      ? ` containeros promote ${name} has it take over now, containeros abort ${name} takes it back.`
      : '';
  const message = /[.!?]$/.test(operation.message) ? operation.message : `${operation.message}.`;
  return ['', `v${number}: ${message}${next}`];
};

const originOf = ({ rollbackOf, redeployOf, diff }: ReleaseView): string => {
  const origin =
    rollbackOf !== undefined
      ? [`back to v${rollbackOf}`]
      : redeployOf !== undefined
        ? [`v${redeployOf} again`]
        : [];
  const all = [...origin, ...diff];
  return all.length > 3 ? `${listInWords(all.slice(0, 3))}, and ${all.length - 3} more` : all.join('; ');
};

const releases: Command = {
  name: 'releases',
  arguments: ['NAME'],
  flags: [],
  summary: 'Show the releases: when, by whom, and what each changed.',
  run: async ({ api, argument, nowMs }) => {
    const name = argument('NAME');
    const answer = await api.list<ReleaseView>(`${pathOf(name)}/releases`);
    const { items } = answer.value;
    return {
      answer,
      words: () =>
        [
          table(
            [
              { title: 'RELEASE' },
              { title: 'STATE' },
              { title: 'MADE' },
              { title: 'BY' },
              { title: 'CHANGES' },
            ],
            items.map((release) => [
              `v${release.number}`,
              stateOf(release),
              fromNowInWords(Date.parse(release.createdAt), nowMs()),
              [release.by?.kind ?? '-', release.by?.name].filter((one) => one !== undefined).join(' '),
              originOf(release),
            ]),
          ),
          ...items.flatMap((release) => progressOf(name, release)),
        ].join('\n'),
    };
  },
};

export const RELEASE_COMMANDS: readonly Command[] = [deploy, scale, rollback, releases];
