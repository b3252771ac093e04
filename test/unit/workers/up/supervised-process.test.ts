// A process that hangs is ended and started again; one that never spoke, or speaks on, is left alone. What an earlier
// supervisor left is ended; a process that only has its number is not.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { endOrphan, processStart, superviseProcess } from '../../../../workers/up/supervised-process';
import { eventually } from '../../../support/wait';

const SILENCE_MS = 400;
const GRACE_MS = 400;
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
      graceMs: GRACE_MS,
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

describe('one that is to end', () => {
  /** It tells its own number, and never that it lives: as engines do. */
  const engine = (rest = '') => supervise(`${rest} process.send(process.pid); setInterval(() => 0, 1_000);`);
  const started = (messages: readonly unknown[], times: number) =>
    eventually(() => expect(messages.length).toBe(times), { timeoutMs: 20_000 });

  test('is started again once it has ended in order', async () => {
    const { supervised, messages, ends } = engine();
    await started(messages, 1);
    supervised.restart();
    await started(messages, 2);
    expect(ends).toEqual(['SIGTERM']);
    await supervised.stop();
    expect(ends).toEqual(['SIGTERM', 'SIGTERM']);
  });

  test.each([
    ['is frozen', '', 'SIGSTOP'],
    ['does not want to', `process.on('SIGTERM', () => 0);`, undefined],
  ] as const)('is killed and started again when it %s', async (_, script, signal) => {
    const { supervised, messages, ends } = engine(script);
    await started(messages, 1);
    if (signal !== undefined) process.kill(messages[0] as number, signal);
    supervised.restart();
    await started(messages, 2);
    expect(ends).toEqual(['SIGKILL']);
    expect(supervised.pid()).toBe(messages[1]);
    await supervised.stop();
  });

  test('is killed when it hangs as all is stopped, also if it was to be started again', async () => {
    const { supervised, messages, ends } = engine();
    await started(messages, 1);
    process.kill(messages[0] as number, 'SIGSTOP');
    supervised.restart();
    await supervised.stop();
    expect(ends).toEqual(['SIGKILL']);
    expect(messages.length).toBe(1);
  });
});

describe('what an earlier start left', () => {
  const MARK = 'the-data-directory';
  const end = () => endOrphan({ role: 'consul', runDirectory, mark: MARK }, pino({ level: 'silent' }));
  const writePid = (text: string) => writeFileSync(join(runDirectory, 'consul.pid'), text);
  const startOther = async () => {
    const child = spawn(process.execPath, ['--eval', 'console.log(1); setInterval(() => 0, 1000)', MARK]);
    await once(child.stdout, 'data');
    return { child, pid: child.pid ?? 0 };
  };

  test.each([true, false])('is ended, whether its start is known or not (%s)', async (isKnown) => {
    const { child, pid } = await startOther();
    const gone = once(child, 'exit');
    writePid(isKnown ? `${pid} ${processStart(pid) ?? ''}` : String(pid));
    await end();
    expect((await gone)[1]).toBe('SIGTERM');
  });

  test('is not another process of that number, as after a power cut', async () => {
    const { child, pid } = await startOther();
    writePid(`${pid} ${Number(processStart(pid)) - 1}`);
    await end();
    expect(child.exitCode ?? child.signalCode).toBeNull();
    expect(process.kill(pid, 0)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  test('is never the supervisor itself', async () => {
    writePid(String(process.pid));
    let isTold = false;
    const told = () => (isTold = true);
    process.once('SIGTERM', told);
    // The command line of this very process has it.
    await endOrphan({ role: 'consul', runDirectory, mark: 'node' }, pino({ level: 'silent' }));
    process.off('SIGTERM', told);
    expect(isTold).toBe(false);
  });
});

test('one whose number cannot be written down runs, and is started again', async () => {
  // A folder can neither be written over nor taken away like a file, whoever tries.
  mkdirSync(join(runDirectory, 'node.pid'));
  const { supervised, messages, ends } = supervise(`process.send({ kind: 'status', ready: true });`);
  await eventually(() => expect(ends.length).toBeGreaterThan(1), { timeoutMs: 20_000 });
  await eventually(() => expect(messages.length).toBeGreaterThan(1), { timeoutMs: 20_000 });
  await supervised.stop();
});
