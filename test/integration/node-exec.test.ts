// Commands in containers, asked for over connections that the node opened, with the API's own half of it: from a node on
// the API's machine, and from one that has joined, over the cluster port.
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { openExecSession, type ExecOutput, type ExecSession } from '../../api/exec-session';
import { createNodeStreams, type ExecWanted, type NodeStreams } from '../../api/node-streams';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import type { StartReplica } from '../../contracts/activities';
import { loadInto, webImage } from '../support/images';
import { eventually } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

const SLEEP = ['/bin/sh', '-c', 'sleep 100000'];

interface Collected {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | undefined;
}

const collect = async (session: ExecSession): Promise<Collected> => {
  const out: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  let exitCode: number | undefined;
  for await (const one of session.output()) {
    if (one.kind === 'data') out[one.channel].push(one.data);
    if (one.kind === 'exited') exitCode = one.exitCode;
  }
  const text = (channel: 'stdout' | 'stderr') => Buffer.concat(out[channel]).toString('utf8');
  return { stdout: text('stdout'), stderr: text('stderr'), exitCode };
};

/** Reads until the text is there. */
const readUntil = async (output: AsyncGenerator<ExecOutput, void>, text: string): Promise<string> => {
  let seen = '';
  while (!seen.includes(text)) {
    const next = await output.next();
    if (next.done === true) throw new Error(`the output ended with ${JSON.stringify(seen)}`);
    if (next.value.kind === 'data') seen += next.value.data.toString('utf8');
  }
  return seen;
};

/** What the API has for nodes on its own machine. */
const startStreamsServer = async (streams: NodeStreams): Promise<Server> => {
  const server = createServer((request, response) => {
    if (request.headers.authorization !== 'Bearer test') return response.writeHead(401).end();
    const url = new URL(request.url ?? '', 'http://api');
    const id = url.pathname.split('/')[4] ?? '';
    if (request.method === 'GET') {
      response.writeHead(200);
      response.write('\n');
      const disconnected = streams.connected(id, {
        send: (line) => response.write(line) || true,
        close: () => response.end(),
      });
      response.on('close', disconnected);
      return undefined;
    }
    const error = url.searchParams.get('error');
    if (error !== null) {
      streams.refuse(id, new ContainerOsError(error as ErrorCode, url.searchParams.get('message') ?? ''));
      return response.writeHead(204).end();
    }
    const beginReply = () => {
      response.writeHead(200).flushHeaders();
      return response;
    };
    void streams.answer(id, request, undefined, beginReply).then(() => {
      if (!response.headersSent) response.writeHead(204).end();
    });
    return undefined;
  });
  server.requestTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
};

describe.each(['on the machine of the API', 'on a machine that has joined'])('a node %s', (where) => {
  const isJoined = where !== 'on the machine of the API';
  let machine: NodeMachine;
  let server: Server | undefined;
  let streams: NodeStreams;
  let replica: StartReplica;

  beforeAll(async () => {
    machine = await startNodeMachine({ isJoined });
    await loadInto(machine.engine, await webImage('v1'));
    if (machine.port === undefined) {
      streams = createNodeStreams();
      server = await startStreamsServer(streams);
      const { port } = server.address() as AddressInfo;
      await machine.restartNode({ config: { apiUrl: `http://127.0.0.1:${port}` } });
    } else streams = machine.port.nodeStreams;
    await eventually(() => expect(streams.isConnected(machine.config.nodeId)).toBe(true));
    replica = buildStart({
      containers: {
        a: { image: 'web:v1', command: SLEEP, env: { FROM: 'container' }, stopGraceSeconds: 0 },
        b: { image: 'web:v1', command: SLEEP, stopGraceSeconds: 0 },
      },
    });
    expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  }, 120_000);
  afterAll(async () => {
    await machine?.dispose();
    server?.closeAllConnections();
    server?.close();
  });

  const open = (command: readonly string[], wanted: Partial<ExecWanted> = {}): Promise<ExecSession> =>
    openExecSession(
      streams,
      machine.config.nodeId,
      {
        kind: 'exec',
        replicaId: replica.replicaId,
        container: 'a',
        env: [],
        stdin: false,
        tty: false,
        ...wanted,
        command,
      },
      new AbortController().signal,
    );
  const run = async (command: readonly string[], wanted: Partial<ExecWanted> = {}): Promise<Collected> =>
    collect(await open(command, wanted));
  const sh = (script: string, wanted: Partial<ExecWanted> = {}) => run(['/bin/sh', '-c', script], wanted);
  /** Command lines in the container. */
  const processes = async (): Promise<string> => {
    const { Processes: found } = (await machine.engine.docker
      .getContainer(`${replica.replicaId}-a`)
      .top({ ps_args: '-eo pid,args' })) as { Processes: string[][] };
    return found.map((columns) => columns.join(' ')).join('\n');
  };

  test('stdout and stderr come apart, with the exit code', async () => {
    expect(await sh('echo out; echo err >&2; exit 7')).toEqual({
      stdout: 'out\n',
      stderr: 'err\n',
      exitCode: 7,
    });
    expect(await sh('exit 0')).toEqual({ stdout: '', stderr: '', exitCode: 0 });
  });

  test('environment, user and directory are taken, and input is at its end when there is none', async () => {
    const wanted = { env: ['ADDED=a b'], user: '1234', workingDirectory: '/tmp' };
    const { stdout, exitCode } = await sh('echo "$FROM,$ADDED,$(id -u),$(pwd)"; cat; echo end', wanted);
    expect({ stdout, exitCode }).toEqual({ stdout: 'container,a b,1234,/tmp\nend\n', exitCode: 0 });
  });

  test('50 MB go in and come out as they were', async () => {
    const session = await open(['cat'], { stdin: true });
    const [sent, received] = [createHash('sha256'), createHash('sha256')];
    let bytes = 0;
    const feed = async () => {
      for (let count = 0; count < 800; count += 1) {
        const data = randomBytes(65_536);
        sent.update(data);
        await session.write(data);
      }
      session.endInput();
    };
    const feeding = feed();
    let exitCode: number | undefined;
    for await (const one of session.output()) {
      if (one.kind === 'data') {
        received.update(one.data);
        bytes += one.data.length;
      }
      if (one.kind === 'exited') exitCode = one.exitCode;
    }
    await feeding;
    expect({ bytes, exitCode }).toEqual({ bytes: 800 * 65_536, exitCode: 0 });
    expect(received.digest('hex')).toBe(sent.digest('hex'));
  }, 120_000);

  test('a terminal has its size, follows its changes, and hands Ctrl-C on', async () => {
    const session = await open(['/bin/sh'], { stdin: true, tty: true, size: { columns: 91, rows: 17 } });
    const output = session.output();
    await session.write(Buffer.from('stty size; echo re""ady\n'));
    expect(await readUntil(output, 'ready')).toContain('17 91');
    session.control({ kind: 'resize', columns: 133, rows: 44 });
    await session.write(Buffer.from('stty size; echo ag""ain\n'));
    expect(await readUntil(output, 'again')).toContain('44 133');
    await session.write(Buffer.from('echo sl""eeps; sleep 5000\n'));
    await readUntil(output, 'sleeps');
    await eventually(async () => expect(await processes()).toContain('sleep 5000'));
    await session.write(Buffer.from('\u0003'));
    await session.write(Buffer.from('exit 3\n'));
    const rest: ExecOutput[] = [];
    for await (const one of output) rest.push(one);
    expect(rest.at(-1)).toEqual({ kind: 'exited', exitCode: 3 });
  }, 60_000);

  test('what cannot be run is an error that says why', async () => {
    await expect(run(['no-such-program'])).rejects.toMatchObject({ code: 'command_not_found' });
    await expect(run(['/proc/version'])).rejects.toMatchObject({ code: 'command_not_executable' });
    await expect(run(['no-such-program'], { tty: true })).rejects.toMatchObject({
      code: 'command_not_found',
    });
    await expect(sh('true', { user: 'nobody-knows' })).rejects.toMatchObject({ code: 'invalid' });
    await expect(sh('true', { workingDirectory: '/nowhere/at/all' })).rejects.toMatchObject({
      code: 'invalid',
    });
    await expect(sh('true', { workingDirectory: '/proc/version' })).rejects.toMatchObject({
      code: 'invalid',
    });
    await expect(sh('true', { container: 'c' })).rejects.toMatchObject({
      code: 'not_found',
      message: `Replica ${replica.replicaId} has no container c; it has a, b.`,
    });
    await expect(sh('true', { replicaId: 'web-none' })).rejects.toMatchObject({ code: 'not_found' });
    await expect(
      openExecSession(
        streams,
        machine.config.nodeId,
        { kind: 'exec', replicaId: replica.replicaId, command: ['true'], env: [], stdin: false, tty: false },
        new AbortController().signal,
      ),
    ).rejects.toMatchObject({ code: 'invalid', message: expect.stringContaining('a, b') as string });
  });

  test('a signal reaches what the command has started, and nothing else', async () => {
    const session = await open(['/bin/sh', '-c', 'sleep 6001 & sleep 6002; echo never']);
    const output = session.output();
    await eventually(async () =>
      expect(await processes()).toMatch(/sleep 6001[^]*sleep 6002|sleep 6002[^]*sleep 6001/),
    );
    session.control({ kind: 'signal', signal: 'SIGTERM' });
    const rest: ExecOutput[] = [];
    for await (const one of output) rest.push(one);
    expect(rest.at(-1)).toEqual({ kind: 'exited', exitCode: 143 });
    await eventually(async () => expect(await processes()).not.toMatch(/sleep 600/));
    expect(await processes()).toContain('sleep 100000');
  }, 60_000);

  test('a session that is closed takes its command along, also one that ignores the hang-up', async () => {
    const session = await open(['/bin/sh', '-c', 'trap "" HUP; sleep 7001 & while :; do sleep 7002; done']);
    await eventually(async () => expect(await processes()).toContain('sleep 7002'));
    session.close();
    await eventually(async () => expect(await processes()).not.toMatch(/sleep 700/), { timeoutMs: 20_000 });
    const quick = await open(['/bin/cat'], { stdin: true, tty: true });
    await eventually(async () => expect(await processes()).toContain('/bin/cat'));
    quick.close();
    await eventually(async () => expect(await processes()).not.toContain('/bin/cat'));
    expect(await processes()).toContain('sleep 100000');
  }, 60_000);

  test('a reader that does not read stops the command, and nothing is gathered', async () => {
    const before = process.memoryUsage().rss;
    const session = await open([
      '/bin/sh',
      '-c',
      'yes 0123456789012345678901234567890123456789 | head -c 150000000',
    ]);
    const output = session.output();
    const begun = (await readUntil(output, '0123')).length;
    await delay(3_000); // what would be gathered would be by then
    expect(process.memoryUsage().rss - before).toBeLessThan(60_000_000);
    let bytes = begun;
    let last: ExecOutput | undefined;
    for await (const one of output) {
      if (one.kind === 'data') bytes += one.data.length;
      last = one;
    }
    expect(bytes).toBe(150_000_000);
    expect(last).toEqual({ kind: 'exited', exitCode: 0 });
  }, 120_000);

  test('input that nobody reads is not gathered either, and ends with the command', async () => {
    const session = await open(['/bin/sh', '-c', 'sleep 3'], { stdin: true });
    let sent = 0;
    let isDone = false;
    const feed = async () => {
      while (!isDone) {
        await session.write(Buffer.alloc(65_536));
        sent += 65_536;
      }
    };
    const feeding = feed();
    const { exitCode } = await collect(session);
    isDone = true;
    await feeding;
    expect(exitCode).toBe(0);
    expect(sent).toBeLessThan(50_000_000);
  }, 60_000);

  test('there is a limit, which is told, and room again after it', async () => {
    const sessions = await Promise.all(
      Array.from({ length: 32 }, () => open(['/bin/sh', '-c', 'sleep 8001'])),
    );
    await expect(sh('')).rejects.toMatchObject({ code: 'rate_limited' });
    for (const session of sessions) session.close();
    await eventually(async () => expect((await sh('')).exitCode).toBe(0), { timeoutMs: 60_000 });
    await eventually(async () => expect(await processes()).not.toContain('sleep 8001'));
  }, 120_000);

  test('a container that ends takes its commands along', async () => {
    const other = buildStart({ containers: { a: { image: 'web:v1', command: SLEEP, stopGraceSeconds: 0 } } });
    expect(await startOne(machine, other)).toMatchObject({ kind: 'ready' });
    const session = await open(SLEEP, { replicaId: other.replicaId });
    const output = session.output();
    expect(await output.next()).toEqual({ done: false, value: { kind: 'started', container: 'a' } });
    const rest = (async () => {
      const seen: ExecOutput[] = [];
      for await (const one of output) seen.push(one);
      return seen.at(-1);
    })().catch((error: unknown) => error);
    await stopOne(machine, other);
    const end = await rest;
    if (end instanceof ContainerOsError) expect(end.code).toBe('conflict');
    else expect(end).toEqual({ kind: 'exited', exitCode: 137 });
    await expect(open(SLEEP, { replicaId: other.replicaId })).rejects.toMatchObject({ code: 'not_found' });
  }, 60_000);

  test('a worker that is restarted ends its sessions with a clear error, and their commands', async () => {
    const session = await open(['/bin/sh', '-c', 'sleep 9001']);
    const output = session.output();
    await eventually(async () => expect(await processes()).toContain('sleep 9001'));
    const ended = (async () => {
      for await (const one of output) expect(one.kind).toBe('started');
    })();
    const outcome = expect(ended).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('broke off while the command ran') as string,
    });
    machine.node.stop();
    await machine.node.settled();
    await outcome;
    expect(await processes()).not.toContain('sleep 9001');
  }, 60_000);
});
