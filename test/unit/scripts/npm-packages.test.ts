// The npm dependencies are installed when the lock file asks for others than are there, and only then.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeSandbox, projectRoot, until, type Run, type Sandbox } from './sandbox';

let sandbox: Sandbox;
let root: string;

const lock = (version: string) =>
  JSON.stringify({
    packages: {
      '': { name: 'x' },
      'node_modules/a': { version, integrity: `sha512-${version}` },
      'node_modules/only-elsewhere': { version: '1.0.0', optional: true },
    },
  });

beforeEach(() => {
  sandbox = makeSandbox();
  root = join(sandbox.folder, 'project');
  mkdirSync(root);
  writeFileSync(join(root, 'package-lock.json'), lock('1.0.0'));
});

afterEach(() => sandbox.dispose());

/** Like `npm ci`: empties node_modules, then fills it. */
const addNpm = (then = ''): string =>
  sandbox.addProgram(
    'npm',
    `echo "$@" >> "${root}/calls"; /bin/rm -rf node_modules; /bin/mkdir node_modules; ${then}`,
  );

const calls = (): number =>
  existsSync(join(root, 'calls')) ? readFileSync(join(root, 'calls'), 'utf8').split('\n').length - 1 : 0;

function ensure(): Run {
  const script = `
    import { ensureNpmPackages } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'npm-packages.mjs'))};
    import { runEntry } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'failure.mjs'))};
    import { stopOnSignals } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'processes.mjs'))};
    stopOnSignals();
    await runEntry(async () => void console.log(await ensureNpmPackages(${JSON.stringify(root)})));`;
  return sandbox.run(['--input-type=module', '--eval', script]);
}

it('installs once for one lock file, and again for another', async () => {
  addNpm();
  expect((await ensure().ended).output).toMatch(/installed\n$/);
  expect((await ensure().ended).output).toBe('up to date\n');
  expect(calls()).toBe(1);
  writeFileSync(join(root, 'package-lock.json'), lock('2.0.0'));
  expect((await ensure().ended).output).toMatch(/installed\n$/);
  expect(calls()).toBe(2);
});

it('takes what was installed by hand if it is what the lock file asks for', async () => {
  addNpm();
  mkdirSync(join(root, 'node_modules'));
  const record = { packages: { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-1.0.0' } } };
  writeFileSync(join(root, 'node_modules', '.package-lock.json'), JSON.stringify(record));
  expect((await ensure().ended).output).toBe('up to date\n');
  expect(calls()).toBe(0);
});

it.each([
  ['another version', { 'node_modules/a': { version: '0.9.0', integrity: 'sha512-0.9.0' } }],
  ['nothing', {}],
  [
    'one more',
    {
      'node_modules/a': { version: '1.0.0', integrity: 'sha512-1.0.0' },
      'node_modules/b': { version: '1.0.0' },
    },
  ],
])('installs when by hand %s was installed', async (_what, packages) => {
  addNpm();
  mkdirSync(join(root, 'node_modules'));
  writeFileSync(join(root, 'node_modules', '.package-lock.json'), JSON.stringify({ packages }));
  expect((await ensure().ended).output).toMatch(/installed\n$/);
});

it('installs again after it was killed in the middle', async () => {
  addNpm('echo $$ > node_modules/pid; exec /bin/sleep 60');
  const first = ensure();
  const pidPath = join(root, 'node_modules', 'pid');
  await until(() => existsSync(pidPath) && readFileSync(pidPath, 'utf8') !== '', 'npm is at work');
  const npmPid = Number(readFileSync(pidPath, 'utf8'));
  first.child.kill('SIGTERM');
  expect((await first.ended).code).toBe(143);
  expect(() => process.kill(npmPid, 0)).toThrow();
  addNpm();
  expect((await ensure().ended).output).toMatch(/installed\n$/);
});

it('says what npm said when it fails', async () => {
  addNpm('echo "npm error network no such host" >&2; exit 1');
  const { code, output } = await ensure().ended;
  expect(output).toMatch(/could not be installed: npm ended with status 1/);
  expect(output).toMatch(/npm error network no such host/);
  expect(output).toMatch(/connect this machine to an npm registry/);
  expect(code).toBe(1);
});

it('says so when there is no npm', async () => {
  expect((await ensure().ended).output).toMatch(/there is no npm on the PATH/);
});
