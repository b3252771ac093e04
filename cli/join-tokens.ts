/** Commands about join tokens: what lets further machines become nodes. */

import type { JoinTokenView, MadeJoinTokenView } from '../openapi/schemas';

import { segment } from './api-client';
import { CommandError, type Command } from './command';
import { count, fromNowInWords, table, timeInWords } from './words';

const PATH = '/v1/join-tokens';
const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** @throws {CommandError} `invalid` */
const parseSeconds = (text: string): number => {
  const [, number, unit = 's'] = /^(\d{1,9})([smhd])?$/.exec(text) ?? [];
  if (number !== undefined) return Number(number) * (UNIT_SECONDS[unit] ?? 1);
  throw new CommandError('invalid', `--expires must be a duration like 30m, 1h or 7d, not "${text}".`);
};

/** @throws {CommandError} `invalid` */
const parseUses = (text: string): number => {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new CommandError('invalid', `--uses must be a whole number like 3, not "${text}".`);
};

const expiresInWords = (expiresAt: string, nowMs: number): string =>
  `${timeInWords(expiresAt)} (${fromNowInWords(Date.parse(expiresAt), nowMs)})`;

const madeInWords = ({ id, command, uses, expiresAt }: MadeJoinTokenView, nowMs: number): string =>
  [
    'Run this on the machine that is to become a node:',
    '',
    `  ${command}`,
    '',
    `It works ${uses === 1 ? 'once' : count(uses, 'time')}, until ${expiresInWords(expiresAt, nowMs)}.`,
    `Whoever has it can add a node, and it is not shown again. containeros join-token revoke ${id} takes it back.`,
  ].join('\n');

const stateOf = ({ expiresAt, usesLeft, revokedAt }: JoinTokenView, nowMs: number): string => {
  if (revokedAt !== undefined) return 'revoked';
  if (usesLeft === 0) return 'used up';
  return Date.parse(expiresAt) <= nowMs ? 'expired' : 'usable';
};

const NO_TOKENS = 'There are no join tokens. containeros join-token create makes one.';

const tokenTable = (tokens: readonly JoinTokenView[], nowMs: number): string =>
  table(
    [
      { title: 'ID' },
      { title: 'STATE' },
      { title: 'USES LEFT', align: 'right' },
      { title: 'EXPIRES' },
      { title: 'USED BY' },
    ],
    tokens.map((token) => [
      token.id,
      stateOf(token, nowMs),
      String(token.usesLeft),
      fromNowInWords(Date.parse(token.expiresAt), nowMs),
      token.usedBy.length === 0 ? 'nobody' : token.usedBy.join(', '),
    ]),
  );

const create: Command = {
  name: 'join-token create',
  arguments: [],
  flags: [
    { name: 'uses', value: 'N', help: 'How many machines may join with it (1).' },
    { name: 'expires', value: 'DURATION', help: 'For how long it may be used, like 30m, 1h or 7d (1h).' },
  ],
  summary: 'Make the command with which further machines join.',
  run: async ({ api, flag, nowMs }) => {
    const [uses, expires] = [flag('uses'), flag('expires')];
    const body = {
      ...(uses === undefined ? {} : { uses: parseUses(uses) }),
      ...(expires === undefined ? {} : { expiresInSeconds: parseSeconds(expires) }),
    };
    const answer = await api.call<MadeJoinTokenView>('POST', PATH, { body });
    return { answer, words: () => madeInWords(answer.value, nowMs()) };
  },
};

const list: Command = {
  name: 'join-token list',
  arguments: [],
  flags: [],
  summary: 'Show the join tokens, and who used them.',
  run: async ({ api, nowMs }) => {
    const answer = await api.list<JoinTokenView>(PATH);
    const { items } = answer.value;
    return { answer, words: () => (items.length === 0 ? NO_TOKENS : tokenTable(items, nowMs())) };
  },
};

const revoke: Command = {
  name: 'join-token revoke',
  arguments: ['ID'],
  flags: [],
  summary: 'Take a join token back; nodes that joined with it stay.',
  run: async ({ api, argument }) => {
    const id = argument('ID');
    const answer = await api.call('DELETE', `${PATH}/${segment(id)}`);
    return { answer, words: () => `Join token ${id} is revoked. Nodes that joined with it stay.` };
  },
};

export const JOIN_TOKEN_COMMANDS: readonly Command[] = [create, list, revoke];
