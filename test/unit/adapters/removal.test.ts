// A container's removal against an engine that refuses it for a moment: what no real engine can be made to do at will.
import { mkdtempSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Docker from 'dockerode';

import { createEngineContainers } from '../../../adapters/docker/engine-containers';

const BUSY =
  'container c1: driver "overlay2" failed to remove root filesystem: unlinkat merged: device or resource busy';

const folder = mkdtempSync(join(tmpdir(), 'removal-'));
const socketPath = join(folder, 'docker.sock');
let refusals: string[] = [];
let server: Server;

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.method !== 'DELETE') throw new Error(`${request.method} ${request.url} is not expected`);
    const message = refusals.shift();
    response.writeHead(message === undefined ? 204 : 500, { 'content-type': 'application/json' });
    response.end(message === undefined ? undefined : JSON.stringify({ message }));
  });
  server.listen(socketPath);
  await once(server, 'listening');
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

const engine = createEngineContainers(new Docker({ socketPath }), 'cluster');

test('a file system that is in use for a moment holds up the removal no longer than that', async () => {
  refusals = [BUSY, BUSY];
  await expect(engine.remove('c1')).resolves.toBe(true);
  expect(refusals).toEqual([]);
});

test('one that stays in use can be removed later', async () => {
  refusals = Array<string>(100).fill(BUSY);
  await expect(engine.remove('c1')).rejects.toMatchObject({
    code: 'unavailable',
    message: `The Docker Engine cannot do it yet: ${BUSY}.`,
  });
});

test('any other refusal is told at once', async () => {
  refusals = ['layer does not exist', BUSY];
  await expect(engine.remove('c1')).rejects.toThrow('layer does not exist');
  expect(refusals).toEqual([BUSY]);
});
