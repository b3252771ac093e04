// The lock between set-ups: never two at once, whatever dies.
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeSandbox, projectRoot, until, type Run, type Sandbox } from './sandbox';

let sandbox: Sandbox;
let folder: string;
let trace: string;

beforeEach(() => {
  sandbox = makeSandbox();
  folder = join(sandbox.folder, 'lock');
  trace = join(sandbox.folder, 'trace');
  writeFileSync(trace, '');
});

afterEach(() => sandbox.dispose());

/** A process that takes the lock, writes "in" and "out" to the trace, and stays inside for a while. */
function enter(insideMs: number, options = '{}'): Run {
  const script = `
    import { appendFileSync } from 'node:fs';
    import { withLock } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'lock.mjs'))};
    import { runEntry } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'failure.mjs'))};
    await runEntry(() => withLock(${JSON.stringify(folder)}, 'the test', async () => {
      appendFileSync(${JSON.stringify(trace)}, 'in\\n');
      await new Promise((resolve) => setTimeout(resolve, ${insideMs}));
      appendFileSync(${JSON.stringify(trace)}, 'out\\n');
    }, ${options}));`;
  return sandbox.run(['--input-type=module', '--eval', script]);
}

const steps = (): string[] => readFileSync(trace, 'utf8').trim().split('\n');

it('lets one in after the other', async () => {
  await Promise.all([1, 2, 3, 4, 5].map(() => enter(20).ended));
  expect(steps()).toEqual(['in', 'out', 'in', 'out', 'in', 'out', 'in', 'out', 'in', 'out']);
  expect(readdirSync(folder)).toEqual([]);
});

it('is free again when its holder is killed', async () => {
  const holder = enter(60_000);
  await until(() => steps().includes('in'), 'the holder is inside');
  const waiting = [enter(10), enter(10)];
  await until(() => waiting.every((run) => run.output().includes('waiting for process')), 'others wait');
  holder.child.kill('SIGKILL');
  for (const run of waiting) expect((await run.ended).code).toBe(0);
  expect(steps()).toEqual(['in', 'in', 'out', 'in', 'out']);
});

it('does not count a process that only has the number of a dead one', async () => {
  mkdirSync(folder);
  writeFileSync(join(folder, `ticket.1.${process.pid}-1-1`), '');
  appendFileSync(join(folder, 'something else'), '');
  expect((await enter(1).ended).code).toBe(0);
});

it('says who holds it when the wait is too long', async () => {
  const holder = enter(60_000);
  await until(() => steps().includes('in'), 'the holder is inside');
  const { code, output } = await enter(1, '{ timeoutMs: 200 }').ended;
  expect(output).toMatch(
    new RegExp(`for process ${holder.child.pid}, which is busy with the same thing: the test`),
  );
  expect(code).toBe(1);
  holder.child.kill('SIGKILL');
  await holder.ended;
});
