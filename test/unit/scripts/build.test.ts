// dist/ is replaced as a whole or not at all, and an unchanged tree costs no build.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeSandbox, projectRoot, type Sandbox } from './sandbox';

let sandbox: Sandbox;
let root: string;

beforeEach(() => {
  sandbox = makeSandbox();
  root = join(sandbox.folder, 'project');
  mkdirSync(join(root, 'api', 'routes'), { recursive: true });
  mkdirSync(join(root, 'openapi'));
  symlinkSync(join(projectRoot, 'node_modules'), join(root, 'node_modules'));
  for (const name of ['package.json', 'package-lock.json']) cpSync(join(projectRoot, name), join(root, name));
  write('api/server.ts', "import { path } from './routes/health';\nexport const served: string = path;\n");
  write('api/routes/health.ts', "export const path = '/healthz';\n");
  write('openapi/openapi.json', '{}');
});

afterEach(() => sandbox.dispose());

const write = (path: string, content: string): void => writeFileSync(join(root, path), content);
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

async function build(): Promise<string> {
  const script = `
    import { build } from ${JSON.stringify(join(projectRoot, 'scripts', 'build.mjs'))};
    import { runEntry } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'failure.mjs'))};
    await runEntry(async () => void console.log(await build(${JSON.stringify(root)})));`;
  return (await sandbox.run(['--input-type=module', '--eval', script]).ended).output;
}

it('transpiles sources with their maps and copies what is read at run time', async () => {
  expect(await build()).toBe('3 files, workflow bundle left out (there is no workflows/index.ts)\n');
  const run = sandbox.run(['--print', `require(${JSON.stringify(join(root, 'dist/api/server.js'))}).served`]);
  expect((await run.ended).output).toBe('/healthz\n');
  expect((JSON.parse(read('dist/api/routes/health.js.map')) as { sources: string[] }).sources).toEqual([
    '../../../api/routes/health.ts',
  ]);
  expect(read('dist/openapi/openapi.json')).toBe('{}');
});

it('does nothing when only times changed, and builds when a source did', async () => {
  await build();
  utimesSync(join(root, 'api/server.ts'), 0, 0);
  expect(await build()).toBe('up to date\n');
  write('api/server.ts', 'export const served = 1;\n');
  expect(await build()).toMatch(/^3 files/);
});

it('forgets the output of a source that is gone', async () => {
  write('api/old.ts', 'export const old = 1;\n');
  await build();
  expect(existsSync(join(root, 'dist/api/old.js'))).toBe(true);
  cpSync(join(root, 'api/server.ts'), join(root, 'api/new.ts'));
  rmSync(join(root, 'api/old.ts'));
  await build();
  expect(existsSync(join(root, 'dist/api/old.js'))).toBe(false);
});

it('leaves dist/ as it was when a source cannot be compiled, and names them all', async () => {
  await build();
  const before = read('dist/api/server.js');
  write('api/server.ts', 'export const = 1;\n');
  write('api/routes/health.ts', 'export cons\n');
  const output = await build();
  expect(output).toMatch(/api\/routes\/health\.ts/);
  expect(output).toMatch(/api\/server\.ts/);
  expect(read('dist/api/server.js')).toBe(before);
  expect(readdirSync(join(root, '.cache'))).toEqual([]);
});

it('removes what a build that was killed left behind', async () => {
  mkdirSync(join(root, '.cache', 'dist.999999999-1.new'), { recursive: true });
  await build();
  expect(readdirSync(join(root, '.cache'))).toEqual([]);
});

it('is done once by two at the same time', async () => {
  const outputs = await Promise.all([build(), build()]);
  const built = outputs.filter((output) => /3 files/.test(output));
  expect(built).toHaveLength(1);
  expect(outputs.filter((output) => /up to date/.test(output))).toHaveLength(1);
});
