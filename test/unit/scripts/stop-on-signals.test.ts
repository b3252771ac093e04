// Who is told to stop ends what runs, and begins nothing more, whatever was to come after it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeSandbox, projectRoot, until, type Sandbox } from './sandbox';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = makeSandbox();
});

afterEach(() => sandbox.dispose());

it('begins no further program when one ends because it was told to stop', async () => {
  const [started, next] = [join(sandbox.folder, 'started'), join(sandbox.folder, 'next')];
  const script = `
    import { onStop, run, stopOnSignals } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'processes.mjs'))};
    stopOnSignals();
    onStop(() => new Promise((resolve) => setTimeout(resolve, 500)));
    await run('/bin/sh', ['-c', ${JSON.stringify(`echo $$ > ${started}; exec /bin/sleep 60`)}]);
    await run('/bin/sh', ['-c', ${JSON.stringify(`echo $$ > ${next}; exec /bin/sleep 60`)}]);`;
  const running = sandbox.run(['--input-type=module', '--eval', script]);
  await until(() => existsSync(started) && readFileSync(started, 'utf8') !== '', 'the first one runs');
  const pid = Number(readFileSync(started, 'utf8'));
  running.child.kill('SIGTERM');
  expect((await running.ended).code).toBe(143);
  expect(() => process.kill(pid, 0)).toThrow();
  expect(existsSync(next)).toBe(false);
});
