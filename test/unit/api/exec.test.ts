/** Commands in containers: once and interactive, what is refused, and what ends them. */

import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { text as readText } from 'node:stream/consumers';

import { WebSocket, type ClientOptions } from 'ws';

import { encodeFrames } from '../../../contracts/exec';
import { eventually } from '../../support/wait';

import { PASSWORD, nodeDocument, useApi } from './api-under-test';
import { connectExecNode, execReplica as replica, type Command, type Refusal } from './fake-exec-node';

const world = useApi();

const publish = async (...documents: Record<string, unknown>[]) => {
  const index = world.api.kv.put(Object.assign({}, ...documents) as Record<string, unknown>);
  await eventually(() => {
    const { indexes } = world.api.readModel.status();
    expect(Math.min(indexes.replicas, indexes.nodes)).toBeGreaterThanOrEqual(index);
  });
};

const connectNode = (run: (command: Command) => void | Promise<void>, refuse?: Refusal) =>
  connectExecNode(world.api, run, refuse);

const post = (body: object, path = '/v1/replicas/web-1/exec') => world.api.call('POST', path, { body });

describe('once', () => {
  test('a command is answered with its exit code and both outputs, and is an event', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(async (command) => {
      await eventually(() => expect(command.input()).toBe('some input'));
      command.write('stdout', 'out\n');
      command.write('stderr', 'err\n');
      command.say({ kind: 'exited', exitCode: 3 });
    });
    const answer = await post({
      command: ['sh', '-c', 'echo it\'s "x"'],
      stdin: 'some input',
      env: { SECRET: 'hidden' },
      user: 'www-data',
      workingDirectory: '/srv',
    });
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      replica: 'web-1',
      container: 'app',
      node: 'node-1',
      exitCode: 3,
      timedOut: false,
      stdout: 'out\n',
      stderr: 'err\n',
      stdoutTruncated: false,
      stderrTruncated: false,
    });
    expect(node.commands[0]?.wanted).toMatchObject({
      kind: 'exec',
      replicaId: 'web-1',
      command: ['sh', '-c', 'echo it\'s "x"'],
      env: ['SECRET=hidden'],
      user: 'www-data',
      workingDirectory: '/srv',
      stdin: true,
      tty: false,
    });
    await eventually(async () => {
      const { body } = await world.api.call('GET', '/v1/events?type=replica.command_run');
      expect((body as { items: object[] }).items).toMatchObject([
        {
          microservice: 'web',
          replica: 'web-1',
          node: 'node-1',
          message: `127.0.0.1 had a command run in container app of web-1 as www-data: sh -c 'echo it'\\''s "x"'`,
        },
      ]);
    });
    expect(world.api.logged.join('')).not.toContain('hidden');
    await eventually(() => expect(node.commands[0]?.isCut()).toBe(true));
    node.close();
  });

  test('more output than an answer holds is left out, and said to be', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode((command) => {
      command.write('stdout', 'é'.repeat(600_000));
      command.write('stderr', 'x'.repeat(1_000_000));
      command.say({ kind: 'exited', exitCode: 0 });
    });
    const { body } = await post({ command: ['cat'] });
    expect(body).toMatchObject({ exitCode: 0, stdoutTruncated: true, stderrTruncated: false });
    expect((body as { stdout: string }).stdout).toBe('é'.repeat(500_000));
    expect((body as { stderr: string }).stderr).toHaveLength(1_000_000);
    node.close();
  });

  test('a command whose time is over is ended, and what it wrote is answered', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode((command) => command.write('stdout', 'so far'));
    const { status, body } = await post({ command: ['sleep', '100'], timeoutSeconds: 1 });
    expect(status).toBe(200);
    expect(body).toMatchObject({ exitCode: 124, timedOut: true, stdout: 'so far' });
    await eventually(() => expect(node.commands[0]?.isCut()).toBe(true));
    node.close();
  });

  test('a client that goes away ends it', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(() => undefined);
    const body = JSON.stringify({ command: ['sleep', '100'] });
    const asking = request(`${world.api.url}/v1/replicas/web-1/exec`, {
      method: 'POST',
      headers: { authorization: `Bearer ${PASSWORD}`, 'content-type': 'application/json' },
    });
    asking.on('error', () => undefined);
    asking.end(body);
    await eventually(() => expect(node.commands).toHaveLength(1));
    asking.destroy();
    await eventually(() => expect(node.commands[0]?.isCut()).toBe(true));
    node.close();
  });

  test('what the node says is the answer', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const refusing = await connectNode(() => undefined, { error: 'rate_limited', message: 'Too many here.' });
    expect(await post({ command: ['ls'] })).toMatchObject({
      status: 429,
      body: { detail: 'Too many here.' },
    });
    refusing.close();
    const failing = await connectNode((command) =>
      command.say({ kind: 'failed', code: 'command_not_found', message: 'There is no command lss.' }),
    );
    expect(await post({ command: ['lss'] })).toMatchObject({
      status: 422,
      body: { code: 'command_not_found', detail: 'There is no command lss.' },
    });
    failing.close();
  });

  test('a node that breaks off, is lost, or is not connected is told', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const breaking = await connectNode((command) => void command.sending.destroy());
    const broken = await post({ command: ['ls'] });
    expect(broken).toMatchObject({ status: 503, body: { code: 'unavailable' } });
    expect((broken.body as { detail: string }).detail).toContain('broke off while the command ran');
    breaking.close();

    const silent = await connectNode(() => undefined);
    const asked = post({ command: ['ls'] });
    await eventually(() => expect(silent.commands).toHaveLength(1));
    world.api.members.lose('node-1');
    const lost = await asked;
    expect(lost.status).toBe(503);
    expect((lost.body as { detail: string }).detail).toContain('node-1 was lost while the command ran');
    const later = await post({ command: ['ls'] });
    expect((later.body as { detail: string }).detail).toContain('node-1 of replica web-1 does not answer');
    silent.close();
  });

  test.each([
    ['an exit code that is none', '{"kind":"exited","exitCode":"0"}'],
    ['an error that is none', '{"kind":"failed","code":"toString","message":"x"}'],
    ['a novel', `{"kind":"failed","code":"invalid","message":"${'x'.repeat(3_000)}"}`],
    ['no JSON', '{'],
  ])('a node that says %s is cut, and the client is told', async (_, text) => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(({ sending }) => {
      sending.write(encodeFrames('control', Buffer.from(text)));
    });
    const { status, body } = await post({ command: ['ls'] });
    expect(status).toBe(503);
    expect((body as { detail: string }).detail).toContain('broke off while the command ran');
    await eventually(() => expect(node.commands[0]?.isCut()).toBe(true));
    node.close();
  });

  test('nobody is asked without a connection', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const { status, body } = await post({ command: ['ls'] });
    expect(status).toBe(503);
    expect((body as { detail: string }).detail).toContain('node-1 is not connected now');
  });

  test.each([
    ['no command', {}, '/command'],
    ['an empty command', { command: [] }, '/command'],
    ['an empty program', { command: [''] }, '/command/0'],
    ['a NUL', { command: ['a\u0000b'] }, '/command/0'],
    ['a bad variable', { command: ['ls'], env: { 'A=B': '1' } }, '/env'],
    ['too much time', { command: ['ls'], timeoutSeconds: 601 }, '/timeoutSeconds'],
    ['what there is not', { command: ['ls'], terminal: true }, '/terminal'],
  ])('%s is refused with its place', async (_, body, path) => {
    await publish(replica(), nodeDocument('node-1'));
    const answer = await post(body);
    expect(answer.status).toBe(400);
    const { problems } = answer.body as { problems: { path: string }[] };
    expect(problems.map((problem) => problem.path).join(' ')).toContain(path);
  });

  test('names that there are not are told, with what was meant', async () => {
    await publish(replica('web-1', ['app', 'db']), nodeDocument('node-1'));
    const detail = async (asked: Promise<{ status: number; body: unknown }>) => {
      const { status, body } = await asked;
      return [status, (body as { detail: string }).detail];
    };
    expect(await detail(post({ command: ['ls'] }, '/v1/replicas/web-2/exec'))).toEqual([
      404,
      'There is no replica web-2. Did you mean web-1?',
    ]);
    expect(await detail(post({ command: ['ls'], container: 'ap' }))).toEqual([
      404,
      'There is no container ap; there are app, db. Did you mean app?',
    ]);
    expect(await detail(post({ command: ['ls'] }))).toEqual([
      400,
      'Replica web-1 has several containers: say which of app, db.',
    ]);
  });
});

describe('interactive', () => {
  const sockets: WebSocket[] = [];
  afterEach(() => sockets.splice(0).forEach((socket) => socket.terminate()));

  interface Client {
    readonly socket: WebSocket;
    readonly messages: unknown[];
    readonly output: { stdout: string; stderr: string };
    readonly closed: Promise<number>;
  }

  const open = (
    options: ClientOptions = { headers: { authorization: `Bearer ${PASSWORD}` } },
    protocols: string[] = [],
    query = '',
  ): Client => {
    const url = `${world.api.url.replace('http', 'ws')}/v1/replicas/web-1/exec${query}`;
    const socket = new WebSocket(url, protocols, options);
    sockets.push(socket);
    socket.on('error', () => undefined); // of a handshake that is refused
    const messages: unknown[] = [];
    const output = { stdout: '', stderr: '' };
    socket.on('message', (data: Buffer, isBinary) => {
      if (!isBinary) messages.push(JSON.parse(data.toString('utf8')));
      else output[data[0] === 1 ? 'stdout' : 'stderr'] += data.subarray(1).toString('utf8');
    });
    const closed = new Promise<number>((resolve) => socket.once('close', resolve));
    return { socket, messages, output, closed };
  };
  const start = async (client: Client, more: object = {}) => {
    await once(client.socket, 'open');
    client.socket.send(JSON.stringify({ kind: 'start', command: ['sh'], stdin: true, ...more }));
  };
  /** What a handshake that is refused is answered with. */
  const refused = async (client: Client) => {
    const [, response] = (await once(client.socket, 'unexpected-response')) as [unknown, IncomingMessage];
    return { status: response.statusCode, body: JSON.parse(await readText(response)) as { detail: string } };
  };

  test('input, output, size and signals go both ways, and the exit code ends it', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(() => undefined);
    const client = open();
    await start(client, { tty: true, columns: 80, rows: 24 });
    client.socket.send(Buffer.from('\u0000hello'));
    client.socket.send(JSON.stringify({ kind: 'resize', columns: 100, rows: 30 }));
    client.socket.send(JSON.stringify({ kind: 'signal', signal: 'SIGINT' }));
    client.socket.send(Buffer.of(0));
    await eventually(() => expect(node.commands[0]?.received.length).toBeGreaterThanOrEqual(4));
    const [command] = node.commands as [Command];
    expect(command.wanted).toMatchObject({ tty: true, stdin: true, size: { columns: 80, rows: 24 } });
    expect(command.input()).toBe('hello');
    expect(command.received.at(-1)).toEqual({ channel: 'stdin', data: Buffer.alloc(0) });
    expect(command.input('control')).toBe(
      '{"kind":"resize","columns":100,"rows":30}{"kind":"signal","signal":"SIGINT"}',
    );
    command.write('stdout', 'out');
    command.write('stderr', 'err');
    command.say({ kind: 'exited', exitCode: 130 });
    expect(await client.closed).toBe(1_000);
    expect(client.messages).toEqual([
      { kind: 'started', replica: 'web-1', container: 'app', node: 'node-1' },
      { kind: 'exited', exitCode: 130 },
    ]);
    expect(client.output).toEqual({ stdout: 'out', stderr: 'err' });
    node.close();
  });

  test('a client that closes, and one that is cut, end the command', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(() => undefined);
    const [closing, cut] = [open(), open()];
    await Promise.all([start(closing), start(cut)]);
    await eventually(() => expect(node.commands).toHaveLength(2));
    closing.socket.close();
    cut.socket.terminate();
    await eventually(() => expect(node.commands.map((command) => command.isCut())).toEqual([true, true]));
    node.close();
  });

  test('what goes wrong after the handshake is a message, and a code of its status', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const notConnected = open();
    await start(notConnected);
    expect(await notConnected.closed).toBe(4_503);
    expect(notConnected.messages).toMatchObject([{ kind: 'failed', problem: { code: 'unavailable' } }]);
    const node = await connectNode(() => undefined);
    const mistaken = open();
    await start(mistaken, { command: [] });
    expect(await mistaken.closed).toBe(4_400);
    const odd = open();
    await start(odd);
    await eventually(() => expect(odd.messages).toHaveLength(1));
    odd.socket.send(Buffer.from('\u0007'));
    expect(await odd.closed).toBe(4_400);
    expect(odd.messages.at(-1)).toMatchObject({ kind: 'failed', problem: { code: 'invalid' } });
    await eventually(() => expect(node.commands[0]?.isCut()).toBe(true));
    node.close();
  });

  test('a closing API says so', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(() => undefined);
    const client = open();
    await start(client);
    await eventually(() => expect(client.messages).toHaveLength(1));
    world.api.closing.abort();
    expect(await client.closed).toBe(4_503);
    expect(JSON.stringify(client.messages.at(-1))).toContain('The API is closing');
    node.close();
  });

  test('the password is taken as everywhere, and as a subprotocol for pages', async () => {
    await publish(replica(), nodeDocument('node-1'));
    for (const client of [
      open(),
      open({}, [], `?password=${PASSWORD}`),
      open({ headers: { authorization: `Basic ${Buffer.from(`me:${PASSWORD}`).toString('base64')}` } }),
      open({}, [
        'exec.v1.containeros',
        `base64url.bearer.containeros.${Buffer.from(PASSWORD).toString('base64url')}`,
      ]),
    ]) {
      await once(client.socket, 'open');
      expect(client.socket.protocol).not.toContain('bearer');
    }
    expect(sockets.at(-1)?.protocol).toBe('exec.v1.containeros');
    expect(world.api.logged.join('')).not.toContain(PASSWORD);
    expect(await refused(open({}))).toMatchObject({ status: 401 });
    expect(await refused(open({ headers: { authorization: 'Bearer wrong' } }))).toMatchObject({
      status: 401,
    });
    expect(await refused(open({}, ['x', 'base64url.bearer.containeros.d3Jvbmc']))).toMatchObject({
      status: 401,
    });
  });

  test('pages of others, and other names, are refused before anything else', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const headers = { authorization: `Bearer ${PASSWORD}` };
    expect(await refused(open({ headers, origin: 'http://evil.example' }))).toMatchObject({ status: 403 });
    expect(await refused(open({ headers: { ...headers, host: 'evil.example' } }))).toMatchObject({
      status: 403,
    });
    expect(await refused(open({ headers: { ...headers, 'sec-fetch-site': 'cross-site' } }))).toMatchObject({
      status: 403,
    });
    const own = open({ headers, origin: world.api.url });
    await once(own.socket, 'open');
  });

  test('a replica that there is not is refused as over HTTP, and no upgrade is asked to POST', async () => {
    expect(await refused(open())).toMatchObject({ status: 404 });
    await publish(replica(), nodeDocument('node-1'));
    const { status, body } = await world.api.call('GET', '/v1/replicas/web-1/exec');
    expect(status).toBe(400);
    expect((body as { detail: string }).detail).toContain('use POST');
  });

  test('a slow reader slows the node down', async () => {
    await publish(replica(), nodeDocument('node-1'));
    const node = await connectNode(() => undefined);
    const client = open();
    await start(client);
    await eventually(() => expect(client.messages).toHaveLength(1));
    client.socket.pause();
    const [command] = node.commands as [Command];
    const block = encodeFrames('stdout', Buffer.alloc(65_536, 'x'));
    let written = 0;
    while (command.sending.write(block) && written < 200_000_000) written += block.length;
    await eventually(() => {
      while (!command.sending.writableNeedDrain && written < 200_000_000) {
        command.sending.write(block);
        written += block.length;
      }
      expect(command.sending.writableNeedDrain).toBe(true);
    });
    expect(written).toBeLessThan(50_000_000);
    client.socket.resume();
    await eventually(() => expect(command.sending.writableNeedDrain).toBe(false));
    node.close();
  });
});

test('a request that offers another upgrade is answered as if it did not, body and all', async () => {
  await publish(replica(), nodeDocument('node-1'));
  const node = await connectNode((command) => command.say({ kind: 'exited', exitCode: 0 }));
  const body = JSON.stringify({ command: ['ls'] });
  const socket = connect(world.api.port, '127.0.0.1');
  socket.write(
    `POST /v1/replicas/web-1/exec HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${PASSWORD}\r\n` +
      `Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const answer = await readText(socket);
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK/);
  expect(answer).toContain('"exitCode":0');
  node.close();
});
