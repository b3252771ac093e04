/** How command lines are understood, and the help. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { COMMANDS } from '../../../cli/commands';
import { count, durationInWords, fromNowInWords, listInWords, oneLine } from '../../../cli/words';

import { startCli } from './cli-under-test';

const run = (...argv: string[]) => startCli(argv).ended;

describe('the commands', () => {
  test('have names that nothing else has', () => {
    const names = COMMANDS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    // Run by the server side itself.
    expect(names.filter((name) => /^(up|join|leave|help|version|control-plane|api)( |$)/.test(name))).toEqual(
      [],
    );
    // A word alone is a command or the first word of some, never both.
    const groups = names.filter((name) => name.includes(' ')).map((name) => name.split(' ')[0] ?? '');
    expect(names.filter((name) => groups.includes(name))).toEqual([]);
  });

  test('stand in docs/cli.md, and nothing else does', () => {
    const page = readFileSync(join(__dirname, '../../../docs/cli.md'), 'utf8');
    const headings = [...page.matchAll(/^### `containeros ([^`]*)`$/gm)].map(([, usage]) => usage);
    // Two run on the machine itself, and are no clients of the API.
    const own = ['join ADDRESS --token TOKEN', 'leave [--force]'];
    expect(headings).toEqual(expect.arrayContaining(own));
    expect(headings.filter((usage) => !own.includes(usage ?? ''))).toEqual(
      COMMANDS.map(({ name, arguments: names, optionalArguments = [], flags, rest }) =>
        [
          name,
          ...names,
          ...optionalArguments.map((one) => `[${one}]`),
          ...flags.map((flag) => `[--${flag.name}${flag.value === undefined ? '' : ` ${flag.value}`}]`),
          ...(rest === undefined ? [] : [`[-- ${rest}]`]),
        ].join(' '),
      ),
    );
  });
});

describe('the help', () => {
  const OVERVIEW = `\
containeros: a container management system for developers

  containeros up [flags]                   Start everything.

  containeros deploy FILE                  Make or change a microservice as a JSON file says; - is standard input.
  containeros scale NAME REPLICAS          Set how many replicas a microservice has.
  containeros rollback NAME [RELEASE]      Go back to the release before that was healthy, or to one like v5.
  containeros releases NAME                Show the releases: when, by whom, and what each changed.
  containeros promote NAME                 Give a new release all requests now.
  containeros abort NAME                   Roll a release back that is under way.
  containeros pause NAME                   Keep a release as far as it is.
  containeros resume NAME                  Go on with a release that was paused.
  containeros redeploy NAME                Deploy the same specification as a new release.
  containeros exec NAME                    Run a command in a container of a microservice; a shell by default.
  containeros webhooks create NAME WEBHOOK Make a webhook with which a build deploys a microservice.
  containeros webhooks list NAME           Show the webhooks of a microservice, and how each was last used.
  containeros webhooks rotate NAME WEBHOOK Give a webhook a new secret; the old one is worth nothing at once.
  containeros webhooks revoke NAME WEBHOOK Take a webhook away.
  containeros nodes                        Show all nodes: state, availability, load and health.
  containeros node NODE                    Show one node, and what runs on it.
  containeros cordon NODE                  Keep what a node has, and give it nothing new.
  containeros uncordon NODE                Let a node take replicas again; also ends a drain.
  containeros drain NODE                   Move what a node has elsewhere, and give it nothing new.
  containeros remove NODE                  Take a node out of the cluster for good.
  containeros maintenance on NAME          Let the hostnames of a microservice answer that they are under maintenance.
  containeros maintenance off NAME         Let them lead to its replicas again.
  containeros join-token create            Make the command with which further machines join.
  containeros join-token list              Show the join tokens, and who used them.
  containeros join-token revoke ID         Take a join token back; nodes that joined with it stay.
  containeros certificates list            Show the certificates of hostnames, and how they stand.
  containeros certificates show HOSTNAME   Show one certificate, and how issuing it stands.
  containeros certificates upload HOSTNAME Use a certificate of your own for a hostname.
  containeros certificates remove HOSTNAME Remove a certificate; microservices get one of an authority again.
  containeros certificates retry HOSTNAME  Try now to get the certificate of a public hostname.
  containeros trust                        Have this machine trust https://NAME.localhost and the like.

  containeros COMMAND --help               Say what a command does, and its flags.
  containeros --version                    Say the version.
`;

  test.each([[['--help']], [['-h']], [['help']]])('of everything: %j', async (argv) => {
    expect(await run(...argv)).toEqual({ out: OVERVIEW, err: '', end: 0 });
  });

  test('is shown without a command, which is a mistake', async () => {
    expect(await run()).toEqual({ out: OVERVIEW, err: '', end: 2 });
  });

  test.each([[['drain', '--help']], [['help', 'drain']], [['drain', 'x', '--no-such', '-h']]])(
    'of one command: %j',
    async (argv) => {
      expect(await run(...argv)).toEqual({
        out: `\
containeros drain NODE [--wait]

Move what a node has elsewhere, and give it nothing new.
Each replica starts elsewhere before it stops here. One that finds no room elsewhere goes on where it is.
The drain goes on by itself, also when this command has ended.

  --wait                  Follow it until the node is drained, and say what still has to leave.
  --json                  Print the API's answer as it is.
  --api URL               Where the API is (http://127.0.0.1:8000).
                          CONTAINEROS_API_URL
  --password-file FILE    Has the password; CONTAINEROS_PASSWORD may hold the password itself.
                          CONTAINEROS_PASSWORD_FILE
  --data-dir DIR          Data directory of the installation on this machine, which has the password.
                          CONTAINEROS_DATA_DIR
`,
        err: '',
        end: 0,
      });
    },
  );

  const GROUP = `\
  containeros join-token create            Make the command with which further machines join.
  containeros join-token list              Show the join tokens, and who used them.
  containeros join-token revoke ID         Take a join token back; nodes that joined with it stay.
`;

  test('of commands that begin with the same word', async () => {
    expect(await run('join-token')).toEqual({ out: GROUP, err: '', end: 2 });
    for (const argv of [
      ['join-token', '--help'],
      ['help', 'join-token'],
    ])
      expect(await run(...argv)).toEqual({ out: GROUP, err: '', end: 0 });
  });
});

test.each([
  [['nodez'], 'There is no command "nodez". Did you mean nodes? See containeros --help.'],
  [['jointoken'], 'There is no command "jointoken". Did you mean join-token? See containeros --help.'],
  [['upp'], 'There is no command "upp". Did you mean up? See containeros --help.'],
  [['help', 'drian'], 'There is no command "drian". Did you mean drain? See containeros --help.'],
  [['quux'], 'There is no command "quux". See containeros --help.'],
  [['constructor'], 'There is no command "constructor". See containeros --help.'],
  [
    ['join-token', 'crate'],
    'There is no command "join-token crate". Did you mean create? It is one of create, list and revoke.',
  ],
  [['--json', 'nodes'], 'The command comes before its flags, and --json is none. See containeros --help.'],
  [['node'], 'containeros node needs NODE. See containeros node --help.'],
  [
    ['drain', 'a', 'b'],
    'containeros drain takes 1 argument, and "b" is one more. See containeros drain --help.',
  ],
  [
    ['nodes', 'a'],
    'containeros nodes takes no arguments, and "a" is one more. See containeros nodes --help.',
  ],
  [
    ['nodes', '--jsn', '--uses', '-x'],
    'There is no flag --jsn. Did you mean --json? There is no flag --uses. There is no flag -x. See containeros nodes --help.',
  ],
  [['nodes', '--__proto__'], 'There is no flag --__proto__. See containeros nodes --help.'],
  [['nodes', '--json=yes'], '--json takes no value. See containeros nodes --help.'],
  [['nodes', '--json', '--json'], '--json is given twice. See containeros nodes --help.'],
  [['nodes', '--api='], '--api needs a value: --api URL. See containeros nodes --help.'],
  [['nodes', '--api', '--json'], '--api needs a value: --api URL. See containeros nodes --help.'],
])('%j is a mistake', async (argv, message) => {
  expect(await run(...argv)).toEqual({ out: '', err: `containeros: ${message}\n`, end: 'invalid' });
});

test('words fit their numbers', () => {
  expect([0, 1, 2].map((number) => count(number, 'replica'))).toEqual([
    '0 replicas',
    '1 replica',
    '2 replicas',
  ]);
  expect([['a'], ['a', 'b'], ['a', 'b', 'c'], []].map(listInWords)).toEqual([
    'a',
    'a and b',
    'a, b and c',
    '',
  ]);
  expect([0, 1_000, 59_000, 60_000, 3_600_000, 47 * 3_600_000, 48 * 3_600_000].map(durationInWords)).toEqual([
    '0 seconds',
    '1 second',
    '59 seconds',
    '1 minute',
    '1 hour',
    '47 hours',
    '2 days',
  ]);
  expect([fromNowInWords(60_000, 0), fromNowInWords(0, 60_000)]).toEqual(['in 1 minute', '1 minute ago']);
});

test('what drives a terminal does not reach it', () => {
  expect(oneLine('a\u001b[31mb\r\n c\u0007\u009b\u202ed\te')).toBe('a\ufffd[31mb c\ufffd\ufffd\ufffdd e');
});
