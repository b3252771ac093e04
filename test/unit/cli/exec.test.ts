/** `exec`: what is run where, what goes in and comes out, and how it ends. */

import { EventEmitter } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';

import type { Terminal, TerminalSignal } from '../../../cli/terminal';
import { eventually } from '../../support/wait';
import { buildMicroservice, microserviceDocuments, nodeDocument, useApi } from '../api/api-under-test';
import { connectExecNode, execReplica, type Command } from '../api/fake-exec-node';

import { at, startCli } from './cli-under-test';

const world = useApi();

const publish = async (...documents: Record<string, unknown>[]) => {
  const all = [microserviceDocuments(buildMicroservice('web')), nodeDocument('node-1'), ...documents];
  const index = world.api.kv.put(Object.assign({}, ...all) as Record<string, unknown>);
  await eventually(() => {
    const { indexes } = world.api.readModel.status();
    expect(Math.min(indexes.replicas, indexes.nodes, indexes.microservices)).toBeGreaterThanOrEqual(index);
  });
};

const made = (stream: PassThrough, more: object) => Object.assign(stream, more);

interface FakeTerminal {
  readonly terminal: Terminal;
  readonly input: PassThrough;
  readonly raw: boolean[];
  resize(columns: number, rows: number): void;
  signal(signal: TerminalSignal): void;
  out(): string;
  err(): string;
}

const fakeTerminal = (isTTY: boolean): FakeTerminal => {
  const raw: boolean[] = [];
  const signals = new EventEmitter();
  const input = made(new PassThrough(), { isTTY, setRawMode: (isRaw: boolean) => raw.push(isRaw) });
  const output = made(new PassThrough(), isTTY ? { isTTY, columns: 80, rows: 24 } : {});
  const errors = new PassThrough();
  const texts = new Map<Readable, string>([output, errors].map((stream) => [stream, '']));
  for (const stream of texts.keys()) {
    stream.on('data', (chunk: Buffer) => texts.set(stream, `${texts.get(stream)}${chunk.toString('utf8')}`));
  }
  return {
    terminal: {
      input: input,
      output: output,
      errors,
      onSignal: (listener) => {
        signals.on('signal', listener);
        return () => signals.off('signal', listener);
      },
    },
    input,
    raw,
    resize: (columns, rows) => Object.assign(output, { columns, rows }).emit('resize'),
    signal: (signal) => signals.emit('signal', signal),
    out: () => texts.get(output) ?? '',
    err: () => texts.get(errors) ?? '',
  };
};

const start = (terminal: FakeTerminal, ...argv: string[]) =>
  startCli(['exec', ...argv], { ...at(world.api.url), terminal: () => terminal.terminal });

test('a command runs in a replica that serves, which is said, and hands its outputs and exit code on', async () => {
  await publish(
    execReplica('web-1', ['app'], { state: 'unhealthy' }),
    execReplica('web-2'),
    execReplica('web-3'),
  );
  const node = await connectExecNode(world.api, (command) => {
    command.write('stdout', 'out \u001b[31mred\n');
    command.write('stderr', 'err\n');
    command.say({ kind: 'exited', exitCode: 7 });
  });
  const terminal = fakeTerminal(false);
  const argv = [
    '--env',
    'A=1',
    '--env',
    'B=x=y',
    '--user',
    'me',
    '--workdir',
    '/srv',
    'web',
    '--',
    'ls',
    '--help',
    '-l',
  ];
  expect(await start(terminal, ...argv).ended).toEqual({
    out: '',
    err: 'containeros: This runs in replica web-2 on node node-1.\n',
    end: 7,
  });
  expect([terminal.out(), terminal.err()]).toEqual(['out \u001b[31mred\n', 'err\n']);
  expect(node.commands[0]?.wanted).toMatchObject({
    replicaId: 'web-2',
    command: ['ls', '--help', '-l'],
    env: ['A=1', 'B=x=y'],
    user: 'me',
    workingDirectory: '/srv',
    stdin: false,
    tty: false,
  });
  node.close();
});

test('standard input is piped in with -i, and its end too', async () => {
  await publish(execReplica('web-1', ['app', 'db']));
  const node = await connectExecNode(world.api, async (command) => {
    await eventually(() => expect(command.received.at(-1)?.data.length).toBe(0));
    command.write('stdout', command.input().toUpperCase());
    command.say({ kind: 'exited', exitCode: 0 });
  });
  const terminal = fakeTerminal(false);
  const running = start(terminal, 'web', '-i', '--container', 'db', '--replica', 'web-1', '--', 'cat');
  terminal.input.write('some ');
  terminal.input.end('text');
  expect(await running.ended).toEqual({ out: '', err: '', end: 0 });
  expect(terminal.out()).toBe('SOME TEXT');
  expect(node.commands[0]?.wanted).toMatchObject({ container: 'db', stdin: true });
  node.close();
});

test('without a command it is a shell on a terminal, which is raw meanwhile and passes its size on', async () => {
  await publish(execReplica());
  const node = await connectExecNode(world.api, () => undefined);
  const terminal = fakeTerminal(true);
  const running = start(terminal, 'web');
  await eventually(() => expect(node.commands).toHaveLength(1));
  const [command] = node.commands as [Command];
  expect(command.wanted).toMatchObject({
    command: ['/bin/sh'],
    stdin: true,
    tty: true,
    size: { columns: 80, rows: 24 },
  });
  expect(terminal.raw).toEqual([true]);
  terminal.input.write('\u0003');
  terminal.resize(120, 40);
  await eventually(() => expect(command.input()).toBe('\u0003'));
  await eventually(() =>
    expect(command.input('control')).toContain('{"kind":"resize","columns":120,"rows":40}'),
  );
  command.say({ kind: 'exited', exitCode: 130 });
  expect((await running.ended).end).toBe(130);
  expect(terminal.raw).toEqual([true, false]);
  node.close();
});

test('without a terminal a shell reads what is piped in', async () => {
  await publish(execReplica());
  const node = await connectExecNode(world.api, async (command) => {
    await eventually(() => expect(command.received.at(-1)?.data.length).toBe(0));
    command.say({ kind: 'exited', exitCode: command.input() === 'exit 4' ? 4 : 1 });
  });
  const terminal = fakeTerminal(false);
  const running = start(terminal, 'web');
  terminal.input.end('exit 4');
  expect((await running.ended).end).toBe(4);
  expect(node.commands[0]?.wanted).toMatchObject({ stdin: true, tty: false });
  node.close();
});

test('Ctrl-C goes to the command, and a second one ends the session', async () => {
  await publish(execReplica());
  const node = await connectExecNode(world.api, () => undefined);
  const terminal = fakeTerminal(false);
  const running = start(terminal, 'web', '--', 'sleep', '100');
  await eventually(() => expect(node.commands).toHaveLength(1));
  terminal.signal('SIGINT');
  const [command] = node.commands as [Command];
  await eventually(() => expect(command.input('control')).toBe('{"kind":"signal","signal":"SIGINT"}'));
  expect(command.isCut()).toBe(false);
  terminal.signal('SIGINT');
  expect((await running.ended).end).toBe(130);
  await eventually(() => expect(command.isCut()).toBe(true));
  node.close();
});

test('what cannot be run ends with the exit code of its error', async () => {
  await publish(execReplica());
  const node = await connectExecNode(world.api, (command) =>
    command.say({ kind: 'failed', code: 'command_not_found', message: 'There is no command lss.' }),
  );
  expect(await start(fakeTerminal(false), 'web', '--', 'lss').ended).toMatchObject({
    err: expect.stringContaining('containeros: There is no command lss.') as string,
    end: 'command_not_found',
  });
  node.close();
});

test('an API that goes away ends it, and the terminal is as it was', async () => {
  await publish(execReplica());
  const node = await connectExecNode(world.api, () => undefined);
  const terminal = fakeTerminal(true);
  const running = start(terminal, 'web');
  await eventually(() => expect(node.commands).toHaveLength(1));
  await world.api.close();
  expect(await running.ended).toMatchObject({ end: 'unavailable' });
  expect(terminal.raw).toEqual([true, false]);
});

test('--json prints the answer to a command that has ended, and keeps its exit code', async () => {
  await publish(execReplica());
  const node = await connectExecNode(world.api, async (command) => {
    await eventually(() => expect(command.received.at(-1)?.data.length).toBe(0));
    command.write('stdout', command.input());
    command.say({ kind: 'exited', exitCode: 2 });
  });
  const terminal = fakeTerminal(false);
  terminal.input.end('given');
  const { out, end } = await start(terminal, 'web', '-i', '--json', '--', 'cat').ended;
  expect(JSON.parse(out)).toMatchObject({ replica: 'web-1', exitCode: 2, stdout: 'given' });
  expect(end).toBe(2);
  node.close();
});

test('what is wrong is told before anything runs', async () => {
  await publish(
    execReplica('web-1', [], { state: 'crash_looping', reason: 'app exits with 1' }),
    execReplica('web-2', [], { state: 'starting' }),
  );
  const fails = async (...argv: string[]) => {
    const { err, end } = await start(fakeTerminal(false), ...argv).ended;
    return [end, err];
  };
  expect(await fails('web', '--', 'ls')).toEqual([
    'conflict',
    'containeros: No replica of web runs, so nothing can be run in one: web-1 is crash-looping (app exits with 1) and web-2 is starting. Scale it up, or mend what keeps it from running.\n',
  ]);
  expect(await fails('wep', '--', 'ls')).toEqual([
    'not_found',
    'containeros: There is no microservice wep. Did you mean web?\n',
  ]);
  expect(await fails('web', '--replica', 'web-9', '--', 'ls')).toEqual([
    'not_found',
    'containeros: web has no replica web-9; it has web-1 and web-2.\n',
  ]);
  await publish(execReplica('web-1', ['app', 'db']));
  expect((await fails('web', '--replica', 'web-1', '--container', 'nope', '--', 'ls'))[1]).toBe(
    'containeros: There is no container nope; there are app, db.\n',
  );
  expect(await fails('web', 'ls', '-l')).toEqual([
    'invalid',
    'containeros: What is to be run comes after --: containeros exec web -- ls -l. See containeros exec --help.\n',
  ]);
  expect(await fails('web', '--env', 'A', '--', 'ls')).toEqual([
    'invalid',
    'containeros: --env takes KEY=VALUE, not "A".\n',
  ]);
  expect(await fails('web', '-it', '--', 'ls')).toEqual([
    'invalid',
    'containeros: A terminal was asked for (-t), and standard input is none. Leave out -t to pipe something in.\n',
  ]);
  expect((await fails('web', '-x', '--', 'ls'))[1]).toContain('There is no flag -x.');
});
