/** Join tokens on the command line. */

import { joinTokenKvKey } from '../../../contracts/kv';
import type { JoinToken } from '../../../domain/identity';
import { NOW_MS } from '../../support/builders';
import { startApi, useApi, type ApiUnderTest } from '../api/api-under-test';

import { at, startCli } from './cli-under-test';

const use = useApi({ clusterAddress: '192.0.2.1:7443', nowMs: () => NOW_MS });
const run = (...argv: string[]) => startCli(['join-token', ...argv], at(use.api.url)).ended;

const stored = () => use.api.store.peek<JoinToken>('').map(({ value }) => value);
const keep = (token: Partial<JoinToken> & { readonly id: string }) =>
  use.api.store.transact([
    {
      kind: 'create',
      key: joinTokenKvKey(token.id),
      value: {
        secretHash: 'x',
        createdAtMs: NOW_MS - 1_000,
        expiresAtMs: NOW_MS + 3_600_000,
        usesLeft: 1,
        usedBy: [],
        ...token,
      },
    },
  ]);

test('create shows the command to run over there, and how to take it back', async () => {
  const { out, end } = await run('create');
  const [made] = stored();
  const token = /cos1\.\S+/.exec(out)?.[0] ?? '';
  expect(token).toContain(`cos1.${made?.id}.`);
  expect(end).toBe(0);
  expect(out).toBe(`\
Run this on the machine that is to become a node:

  containeros join 192.0.2.1:7443 --token ${token}

It works once, until 2026-01-01 01:00:00 UTC (in 1 hour).
Whoever has it can add a node, and it is not shown again. containeros join-token revoke ${made?.id} takes it back.
`);
});

test.each([
  [
    ['--uses', '3', '--expires', '7d'],
    3,
    7 * 86_400_000,
    'It works 3 times, until 2026-01-08 00:00:00 UTC (in 7 days).',
  ],
  [
    ['--expires', '30m', '--uses=1'],
    1,
    1_800_000,
    'It works once, until 2026-01-01 00:30:00 UTC (in 30 minutes).',
  ],
  [['--expires', '90'], 1, 90_000, 'It works once, until 2026-01-01 00:01:30 UTC (in 2 minutes).'],
])('create takes %j', async (flags, usesLeft, lastsMs, words) => {
  expect((await run('create', ...flags)).out).toContain(words);
  expect(stored()).toMatchObject([{ usesLeft, expiresAtMs: NOW_MS + lastsMs }]);
});

test.each([
  [['--uses', 'two'], '--uses must be a whole number like 3, not "two".'],
  [['--expires', '1w'], '--expires must be a duration like 30m, 1h or 7d, not "1w".'],
  [['--expires'], '--expires needs a value: --expires DURATION. See containeros join-token create --help.'],
  [['--uses', '--json'], '--uses needs a value: --uses N. See containeros join-token create --help.'],
])('create refuses %j before it asks', async (flags, words) => {
  expect(await startCli(['join-token', 'create', ...flags]).ended).toEqual({
    out: '',
    err: `containeros: ${words}\n`,
    end: 'invalid',
  });
});

test('create says all that the API finds wrong', async () => {
  const { err, end } = await run('create', '--uses', '0', '--expires', '31d');
  expect(end).toBe('invalid');
  expect(err).toMatch(/^containeros: The body is not valid: .*\n {2}\/uses .*\n {2}\/expiresInSeconds .*\n$/);
  expect(stored()).toEqual([]);
});

test('create --json prints the answer of the API', async () => {
  const { out } = await run('create', '--json');
  expect(JSON.parse(out)).toMatchObject({ uses: 1, expiresAt: '2026-01-01T01:00:00.000Z' });
});

test('list shows what each token is good for', async () => {
  await keep({ id: 'aaaaaaaa', usesLeft: 2 });
  await keep({ id: 'bbbbbbbb', usesLeft: 0, usedBy: ['node-2', 'node-3'] });
  await keep({ id: 'cccccccc', expiresAtMs: NOW_MS - 3 * 86_400_000 });
  await keep({ id: 'dddddddd', revokedAtMs: NOW_MS - 1 });
  expect((await run('list')).out).toBe(`\
ID        STATE    USES LEFT  EXPIRES     USED BY
aaaaaaaa  usable           2  in 1 hour   nobody
bbbbbbbb  used up          0  in 1 hour   node-2, node-3
cccccccc  expired          1  3 days ago  nobody
dddddddd  revoked          1  in 1 hour   nobody
`);
  expect(JSON.parse((await run('list', '--json')).out)).toHaveProperty('items.length', 4);
});

test('list says in words that there are none', async () => {
  expect((await run('list')).out).toBe(
    'There are no join tokens. containeros join-token create makes one.\n',
  );
});

test('revoke takes one back, and knows when there is none', async () => {
  await keep({ id: 'aaaaaaaa' });
  expect((await run('revoke', 'aaaaaaaa')).out).toBe(
    'Join token aaaaaaaa is revoked. Nodes that joined with it stay.\n',
  );
  expect(stored()).toMatchObject([{ revokedAtMs: NOW_MS }]);
  const { err, end } = await run('revoke', 'eeeeeeee');
  expect([err, end]).toEqual([
    expect.stringMatching(/^containeros: There is no join token eeeeeeee\./),
    'not_found',
  ]);
});

describe('an installation that no other machine can reach', () => {
  let alone: ApiUnderTest;
  beforeEach(async () => {
    alone = await startApi();
  });
  afterEach(() => alone.close());

  test('makes no tokens, in the words of the API', async () => {
    expect((await startCli(['join-token', 'create'], at(alone.url)).ended).end).toBe('conflict');
  });
});
