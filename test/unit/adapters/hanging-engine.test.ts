// An engine that takes connections and never answers: every call ends, and says so.
import { mkdtempSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Docker from 'dockerode';

import { createEngineContainers } from '../../../adapters/docker/engine-containers';
import { readEngineInfo } from '../../../adapters/docker/engine-info';
import { createImagePuller } from '../../../adapters/docker/image-puller';
import { ensureSandboxImage } from '../../../adapters/docker/sandbox-image';
import { createMissingBuilds } from '../../../workers/node/missing-builds';

const folder = mkdtempSync(join(tmpdir(), 'hanging-engine-'));
const socketPath = join(folder, 'docker.sock');
const docker = new Docker({ socketPath });
const sockets = new Set<Socket>();
/** What is answered to requests whose path holds the key; nothing to all others. */
let answers: Readonly<Record<string, string>> = {};
let server: Server;

beforeAll(async () => {
  // The same limits, in less time.
  const timeout = AbortSignal.timeout.bind(AbortSignal);
  jest.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => timeout(Math.min(ms, 200)));
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('data', (head) => {
      const answer = Object.entries(answers).find(([path]) => head.toString().includes(path));
      if (answer !== undefined) socket.write(answer[1]);
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
});
afterAll(() => {
  jest.restoreAllMocks();
  for (const socket of sockets) socket.destroy();
  server.close();
  rmSync(folder, { recursive: true });
});

const answer = (status: number, body: object): string => {
  const text = JSON.stringify(body);
  return `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
};
const engine = createEngineContainers(docker, 'cluster');
const puller = createImagePuller({
  docker,
  builds: createMissingBuilds({ nowMs: Date.now, onChange: () => undefined }),
  authFor: () => Promise.resolve(undefined),
});
const never = new AbortController().signal;
const noImage = { '/json': answer(404, { message: 'no such image' }) };
const info = { '/info': answer(200, { NCPU: 1, MemTotal: 1, Architecture: 'x86_64' }) };

test.each<[string, Readonly<Record<string, string>>, () => Promise<unknown>]>([
  ['a look at an image', {}, () => puller.pull('web:v1', 'missing', never, () => undefined)],
  ['a look at the sandbox image', {}, () => ensureSandboxImage(docker)],
  ['a look at the engine', noImage, () => ensureSandboxImage(docker)],
  ['the import of the sandbox image', { ...noImage, ...info }, () => ensureSandboxImage(docker)],
  [
    'the progress of the import',
    {
      ...noImage,
      ...info,
      '/images/create': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n',
    },
    () => ensureSandboxImage(docker),
  ],
  [
    'the end of a removal',
    { DELETE: answer(409, { message: 'removal of container x is already in progress' }) },
    () => engine.remove('x'),
  ],
  ['a stop', {}, () => engine.stop('x', never)],
])('%s has a limit', async (_, given, call) => {
  answers = given;
  await expect(call()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/^The Docker Engine does not answer/) as string,
  });
});

test('what the engine is has a limit, too', async () => {
  answers = {};
  await expect(readEngineInfo(docker)).rejects.toMatchObject({
    name: expect.stringMatching(/Abort|Timeout/) as string,
  });
});
