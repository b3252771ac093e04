/** When a handover is over, with servers that stand for the old and the new ones of Caddy. */

import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { handoverSocket } from '../../../adapters/ingress/handover';
import { openHandoverEnd, type HandoverEnd } from '../../../adapters/ingress/handover-end';

let directory: string;
let end: HandoverEnd | undefined;
let server: Server | undefined;
let answers = 0;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'containeros-handover-'));
  answers = 0;
});
afterEach(() => {
  end?.close();
  server?.closeAllConnections();
  server?.close();
  server = undefined;
  expect(readdirSync(directory)).toEqual([]);
  rmSync(directory, { recursive: true, force: true });
});

/** @param isNew of each answer, once the old servers end their connections */
const startServers = async (isNew: (answer: number) => boolean, delayMs = 0): Promise<number> => {
  server = createServer((_, response) => {
    answers += 1;
    if (!isNew(answers)) response.setHeader('Connection', 'close');
    setTimeout(() => response.end(), delayMs);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

/** As Caddy asks. @returns milliseconds */
const takesOver = async (): Promise<number> => {
  const startedAt = performance.now();
  const sent = request({ socketPath: handoverSocket(directory), path: '/' });
  sent.end();
  const [response] = (await once(sent, 'response')) as [NodeJS.ReadableStream];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  expect(text).toBe('none');
  return performance.now() - startedAt;
};

test('it takes a second where clients come over at once, and each of them has some answers by then', async () => {
  // The first answer of each client is from before.
  end = await openHandoverEnd({ directory, port: await startServers((answer) => answer > 24) });
  expect(answers).toBe(8);
  const ms = await takesOver();
  expect(ms).toBeGreaterThanOrEqual(999);
  expect(answers).toBeGreaterThanOrEqual(8 + 8 * 10);
});

test('it takes as long as answers take', async () => {
  end = await openHandoverEnd({ directory, port: await startServers((answer) => answer > 16, 200) });
  expect(await takesOver()).toBeGreaterThan(10 * 200);
});

test('it takes as long as any client comes to old servers, and no longer than at most', async () => {
  let isOver = false;
  const port = await startServers(() => isOver);
  end = await openHandoverEnd({ directory, port });
  const waiting = takesOver();
  setTimeout(() => (isOver = true), 1_500);
  expect(await waiting).toBeGreaterThan(1_500);
  isOver = false;
  end.close();
  end = await openHandoverEnd({ directory, port, atMostMs: 1_200 });
  const asked = takesOver();
  // A time limit that only a signal held would be gone with it.
  setFlagsFromString('--expose-gc');
  setTimeout(() => (runInNewContext('gc') as () => void)(), 100);
  const ms = await asked;
  expect(ms).toBeGreaterThan(1_100);
  expect(ms).toBeLessThan(5_000);
});

test('where nobody answers, or what is left of another process is in the way, it takes the second', async () => {
  writeFileSync(handoverSocket(directory), '');
  end = await openHandoverEnd({ directory, port: 1 });
  expect(await takesOver()).toBeGreaterThanOrEqual(999);
});

test('whoever closes it ends what waits', async () => {
  end = await openHandoverEnd({ directory, port: await startServers(() => false) });
  const waiting = takesOver();
  setTimeout(() => end?.close(), 50);
  expect(await waiting).toBeLessThan(999);
});
