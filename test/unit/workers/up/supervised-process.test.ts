// A process that hangs is ended and started again; one that never spoke, or speaks on, is left alone.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { superviseProcess } from '../../../../workers/up/supervised-process';
import { eventually } from '../../../support/wait';

const SILENCE_MS = 400;
const alive = `process.send({ kind: 'alive' });`;
let runDirectory: string;

beforeEach(() => {
  runDirectory = mkdtempSync(join(tmpdir(), 'containeros-supervised-'));
});
afterEach(() => rmSync(runDirectory, { recursive: true }));

const supervise = (script: string) => {
  const messages: unknown[] = [];
  const ends: string[] = [];
  const supervised = superviseProcess(
    {
      role: 'node',
      command: process.execPath,
      args: ['--eval', script],
      env: process.env,
      runDirectory,
      ipc: true,
      onMessage: (message) => messages.push(message),
      onExit: (how) => ends.push(how),
      silenceMs: SILENCE_MS,
    },
    pino({ level: 'silent' }),
  );
  return { supervised, messages, ends };
};

test('one that goes silent is ended and started again, also when it is stopped or busy for ever', async () => {
  for (const hang of [`process.kill(process.pid, 'SIGSTOP')`, 'while (true);']) {
    const { supervised, messages, ends } = supervise(
      `${alive} process.send({ kind: 'status', ready: true }); setTimeout(() => { ${hang} }, 50);`,
    );
    await eventually(() => expect(ends.length).toBeGreaterThan(0), { timeoutMs: 20_000 });
    expect(ends[0]).toBe('SIGKILL');
    await eventually(() => expect(messages.length).toBeGreaterThan(1), { timeoutMs: 20_000 });
    expect(messages[0]).toEqual({ kind: 'status', ready: true });
    await supervised.stop();
  }
});

test('one that speaks on, or has not spoken yet, is left alone', async () => {
  const speaking = supervise(`${alive} setInterval(() => { ${alive} }, 50);`);
  const starting = supervise('setInterval(() => undefined, 1_000);');
  const hanging = supervise(`${alive} setInterval(() => undefined, 1_000);`);
  // By then the others would have been ended as well.
  await eventually(() => expect(hanging.ends.length).toBeGreaterThan(1), { timeoutMs: 20_000 });
  expect(speaking.ends).toEqual([]);
  expect(starting.ends).toEqual([]);
  await Promise.all([speaking, starting, hanging].map(({ supervised }) => supervised.stop()));
});
