/** The node worker's side of limits of requests: what it answers, and what it says when it could not. */

import { mkdtempSync, rmSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { MAY_PASS, countingSocket } from '../../../../adapters/ingress/rate-limit';
import { createRateLimits, type RateLimits } from '../../../../workers/node/rate-limits';
import { eventually } from '../../../support/wait';

let directory: string;
let limits: RateLimits | undefined;
let said: string[];

const start = (at = directory): void => {
  const logger = pino({ level: 'warn' }, { write: (line: string) => said.push(line) });
  limits = createRateLimits({ directory: at, nowMs: () => 0, logger });
  limits.start();
};

const ask = async (path: string, client?: string): Promise<readonly [number, string | undefined]> => {
  const sent = request({
    socketPath: countingSocket(directory),
    path,
    agent: false,
    headers: client === undefined ? {} : { 'client-address': client },
  });
  sent.end();
  const [{ statusCode = 0, headers }] = (await once(sent, 'response')) as [IncomingMessage];
  return [statusCode, headers['retry-after']];
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'containeros-limits-'));
  said = [];
});
afterEach(() => {
  limits?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test('waiting is told in whole seconds, and never as none', async () => {
  start();
  expect(await ask('/0/1/1500/x', '10.0.0.1')).toEqual([MAY_PASS, undefined]);
  expect(await ask('/0/1/1500/x', '10.0.0.1')).toEqual([429, '2']);
  expect(await ask('/1/1/10/x', '10.0.0.1')).toEqual([MAY_PASS, undefined]);
  expect(await ask('/1/1/10/x', '10.0.0.1')).toEqual([429, '1']);
});

test('what is not understood passes', async () => {
  start();
  for (const path of ['/', '/0/1/x']) expect(await ask(path, '10.0.0.1')).toEqual([MAY_PASS, undefined]);
  expect(await ask('/0/1/1000/x')).toEqual([MAY_PASS, undefined]);
  expect(await ask('/0/1/1000/x')).toEqual([MAY_PASS, undefined]);
});

test('a worker that cannot be asked says so', async () => {
  start(join(directory, 'x'.repeat(120)));
  await eventually(() => expect(said.join()).toContain('cannot be counted: all of them pass'));
});

test('a worker that was held up says for how long', async () => {
  start();
  await ask('/0/1/1000/x', '10.0.0.1');
  expect(said).toEqual([]);
  const until = performance.now() + 2_500;
  while (performance.now() < until);
  await eventually(() => expect(said.join()).toMatch(/held up for \d\.\d s, in which requests/));
});
