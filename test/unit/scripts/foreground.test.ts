// `npm start` stands in for the program that it runs: signals go in once, the end comes out.
import { join } from 'node:path';
import { makeSandbox, projectRoot, until, type Run, type Sandbox } from './sandbox';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = makeSandbox();
});

afterEach(() => sandbox.dispose());

function inForeground(program: string): Run {
  const script = `
    import { runInForeground } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'foreground.mjs'))};
    process.exitCode = await runInForeground(process.execPath, ['--eval', ${JSON.stringify(program)}], process.env);`;
  return sandbox.run(['--input-type=module', '--eval', script]);
}

const COUNT_SIGNALS = `
  let count = 0;
  process.on('SIGINT', () => {
    count += 1;
    setTimeout(() => { console.log('signals:', count); process.exit(7); }, 3000);
  });
  setInterval(() => {}, 1000);
  console.log('ready');`;

it('gives a signal that comes twice at once to the program once, and ends with its status', async () => {
  const run = inForeground(COUNT_SIGNALS);
  await until(() => run.output().includes('ready'), 'the program runs');
  run.child.kill('SIGINT');
  await new Promise((done) => setTimeout(done, 50));
  run.child.kill('SIGINT');
  expect(await run.ended).toMatchObject({ code: 7, output: 'ready\nsignals: 1\n' });
});

it('gives a second signal of the user to the program too', async () => {
  const run = inForeground(COUNT_SIGNALS);
  await until(() => run.output().includes('ready'), 'the program runs');
  run.child.kill('SIGINT');
  await new Promise((done) => setTimeout(done, 1_000));
  run.child.kill('SIGINT');
  expect((await run.ended).output).toBe('ready\nsignals: 2\n');
});

it('tells by its status that the program was killed', async () => {
  expect((await inForeground(`process.kill(process.pid, 'SIGKILL')`).ended).code).toBe(137);
});

const SAY_SIGNAL = `
  for (const signal of ['SIGHUP', 'SIGTERM']) process.on(signal, () => { console.log(signal); process.exit(0); });
  setInterval(() => {}, 1000);
  console.log('ready');`;

it('takes a closed terminal for a wish to stop', async () => {
  const run = inForeground(SAY_SIGNAL);
  await until(() => run.output().includes('ready'), 'the program runs');
  run.child.kill('SIGHUP');
  expect((await run.ended).output).toBe('ready\nSIGTERM\n');
});
