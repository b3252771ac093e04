// Logs, asked for over the connection that the node opened, with the API's own half of it.
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

import { createNodeStreams, type NodeStreams } from '../../api/node-streams';
import type { LogLine } from '../../contracts/node-stream';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import { loadInto, webImage } from '../support/images';
import { eventually } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;
let server: Server;
const streams: NodeStreams = createNodeStreams();

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.headers.authorization !== 'Bearer test') return response.writeHead(401).end();
    const url = new URL(request.url ?? '', 'http://api');
    if (request.method === 'GET') {
      response.writeHead(200);
      response.write('\n');
      const disconnected = streams.connected(url.pathname.split('/')[4] ?? '', {
        send: (line) => response.write(line) || true,
        close: () => response.end(),
      });
      response.on('close', disconnected);
      return undefined;
    }
    const requestId = url.pathname.split('/')[4] ?? '';
    const error = url.searchParams.get('error');
    if (error !== null) {
      streams.refuse(
        requestId,
        new ContainerOsError(error as ErrorCode, url.searchParams.get('message') ?? ''),
      );
      return response.writeHead(204).end();
    }
    void streams.answer(requestId, request).then(() => response.writeHead(204).end());
    return undefined;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  machine = await startNodeMachine();
  await loadInto(machine.engine, await webImage('v1'));
  const { port } = server.address() as AddressInfo;
  await machine.restartNode({ config: { apiUrl: `http://127.0.0.1:${port}` } });
  await eventually(() => expect(streams.isConnected(machine.config.nodeId)).toBe(true));
}, 60_000);
afterAll(async () => {
  await machine?.dispose();
  server?.closeAllConnections();
  server?.close();
});

const logs = (replicaId: string, wanted: object = {}, signal = new AbortController().signal) =>
  streams.open(machine.config.nodeId, { kind: 'logs', replicaId, follow: false, ...wanted }, signal);
const collect = async (lines: AsyncIterable<LogLine>): Promise<string[]> => {
  const found: string[] = [];
  for await (const { container, line } of lines) found.push(`${container}: ${line}`);
  return found;
};
const say = (text: string) => ['/bin/sh', '-c', `for i in 1 2 3; do echo ${text} $i; done; sleep 3600`];

test('logs of all containers come in order, from the tail, and as they are written', async () => {
  const replica = buildStart({
    containers: {
      a: { image: 'web:v1', command: say('a') },
      b: { image: 'web:v1', command: say('b'), stopGraceSeconds: 0 },
    },
  });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  const all = await collect(await logs(replica.replicaId));
  expect([...all].sort()).toEqual(['a: a 1', 'a: a 2', 'a: a 3', 'b: b 1', 'b: b 2', 'b: b 3']);
  expect(await collect(await logs(replica.replicaId, { tail: 2 }))).toEqual(all.slice(-2));
  expect(await collect(await logs(replica.replicaId, { container: 'a', tail: 1 }))).toEqual(['a: a 3']);
  expect(await collect(await logs(replica.replicaId, { sinceMs: Date.now() + 60_000 }))).toEqual([]);

  const abort = new AbortController();
  const followed = (await logs(replica.replicaId, { container: 'a', tail: 1, follow: true }, abort.signal))[
    Symbol.asyncIterator
  ]();
  const next = async (): Promise<string> => ((await followed.next()).value as LogLine).line;
  expect(await next()).toBe('a 3');
  // A container that is started again goes on in the same stream.
  await machine.engine.docker.getContainer(`${replica.replicaId}-a`).kill();
  expect([await next(), await next(), await next()]).toEqual(['a 1', 'a 2', 'a 3']);
  abort.abort();
  expect((await followed.next()).done).toBe(true);
  await stopOne(machine, replica);
}, 60_000);

test('a follower goes on when the engine is back, and ends with what was removed meanwhile', async () => {
  const replica = buildStart({
    containers: { a: { image: 'web:v1', command: say('a'), stopGraceSeconds: 0 } },
  });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  const followed = (await logs(replica.replicaId, { tail: 1, follow: true }))[Symbol.asyncIterator]();
  const next = async (): Promise<string> => ((await followed.next()).value as LogLine).line;
  expect(await next()).toBe('a 3');
  await machine.engine.stop();
  await machine.engine.start();
  expect([await next(), await next(), await next()]).toEqual(['a 1', 'a 2', 'a 3']);
  await stopOne(machine, replica);
  expect((await followed.next()).done).toBe(true);
}, 60_000);

test('a reader that goes away ends a flood, and what does not exist is told', async () => {
  const replica = buildStart({
    containers: { app: { image: 'web:v1', ports: [80], env: { LOG_SPAM: 1 }, stopGraceSeconds: 0 } },
  });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  const abort = new AbortController();
  let count = 0;
  for await (const { line } of await logs(replica.replicaId, { follow: true }, abort.signal)) {
    expect(line).not.toBe('');
    count += 1;
    if (count === 1_000) break;
  }
  abort.abort();
  await expect(logs(replica.replicaId, { container: 'db' })).rejects.toMatchObject({ code: 'not_found' });
  await stopOne(machine, replica);
  await expect(logs(replica.replicaId)).rejects.toMatchObject({ code: 'not_found' });
}, 60_000);
