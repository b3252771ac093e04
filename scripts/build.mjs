// Builds dist/: the TypeScript of the product as CommonJS, the workflow bundle, and the files that are read at run
// time. `node scripts/build.mjs` or, from set-up, build().
// Invariants: dist/ is replaced as a whole by renames, after everything in the new one was made, so a failed build
// leaves the old one; a stamp with the hash of all inputs makes an unchanged build cost no more than reading them.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { requireMachine, runEntry, SetUpError } from './set-up/failure.mjs';
import { withLock } from './set-up/lock.mjs';
import { cachePath, checkoutPath } from './set-up/paths.mjs';
import { onStop, processIdentity, stopOnSignals } from './set-up/processes.mjs';
import { step } from './set-up/steps.mjs';

const SOURCE_FOLDERS = [
  'domain',
  'contracts',
  'workflows',
  'activities',
  'adapters',
  'workers',
  'api',
  'openapi',
  'cli',
];
/** What the workflow bundle is made of; the import table allows workflows no other folder. */
const BUNDLE_FOLDERS = ['domain', 'contracts', 'workflows'];
const BUNDLE = 'workflow-bundle.js';
/** Files read at run time that are not TypeScript. */
const isAsset = (path) => path.endsWith('.json');

/** @returns {Promise<string>} what was done, in a few words */
export async function build(root = checkoutPath) {
  const dist = join(root, 'dist');
  const inputs = readInputs(root);
  if (readStamps(dist).all === inputs.all) return 'up to date';
  const lock = join(cachePath(), 'locks', `build-${hash([root]).slice(0, 16)}`);
  return withLock(lock, 'building dist/', async () => {
    const stamps = readStamps(dist);
    if (stamps.all === inputs.all) return 'up to date';
    const fresh = prepareWorkFolder(join(root, '.cache'));
    const forget = onStop(() => removeTree(fresh));
    try {
      const require = createRequire(join(root, 'package.json'));
      transpile(require, root, fresh, inputs.files);
      const bundled = await makeBundle(require, root, dist, fresh, stamps.bundle === inputs.bundle);
      writeFileSync(join(fresh, '.stamps.json'), JSON.stringify({ all: inputs.all, bundle: inputs.bundle }));
      replace(dist, fresh);
      return `${inputs.files.length} files, workflow bundle ${bundled}`;
    } finally {
      removeTree(fresh);
      forget();
    }
  });
}

/** A folder of our own for the new dist/; those of builds that were killed go. */
function prepareWorkFolder(folder) {
  mkdirSync(folder, { recursive: true });
  for (const entry of readdirSync(folder)) {
    const match = /^dist\.((\d+)-\d+)\.(new|old)$/.exec(entry);
    if (match !== null && processIdentity(Number(match[2])) !== match[1]) removeTree(join(folder, entry));
  }
  const fresh = join(folder, `dist.${processIdentity(process.pid)}.new`);
  removeTree(fresh);
  mkdirSync(fresh);
  return fresh;
}

function replace(dist, fresh) {
  const old = fresh.replace(/new$/, 'old');
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(fresh, dist);
  removeTree(old);
}

const removeTree = (path) => rmSync(path, { recursive: true, force: true });

// ---- inputs ----

function readInputs(root) {
  const files = [];
  for (const folder of SOURCE_FOLDERS) {
    if (!existsSync(join(root, folder))) continue;
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      const path = relative(root, join(entry.path, entry.name));
      const isSource = path.endsWith('.ts') && !path.endsWith('.d.ts');
      if (entry.isFile() && (isSource || isAsset(path)))
        files.push({ path, content: readFileSync(join(root, path)) });
    }
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const tools = [
    readFileSync(join(root, 'package-lock.json')),
    readFileSync(new URL(import.meta.url)),
    process.versions.modules,
  ];
  const inBundle = ({ path }) => BUNDLE_FOLDERS.includes(path.split('/')[0]);
  return { files, all: hashFiles(tools, files), bundle: hashFiles(tools, files.filter(inBundle)) };
}

const hashFiles = (tools, files) =>
  hash([...tools, ...files.flatMap(({ path, content }) => [path, content])]);

function hash(pieces) {
  const digest = createHash('sha256');
  for (const piece of pieces) digest.update(`${piece.length}:`).update(piece);
  return digest.digest('hex');
}

function readStamps(dist) {
  try {
    return JSON.parse(readFileSync(join(dist, '.stamps.json'), 'utf8'));
  } catch {
    return {};
  }
}

// ---- outputs ----

/** Also for bench.mjs, which runs what is no part of the product. `home`: where `fresh` will be when it is used. */
export function transpile(require, root, fresh, files, home = join(root, 'dist')) {
  const swc = require('@swc/core');
  const problems = [];
  for (const { path, content } of files) {
    const target = join(fresh, path.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    if (isAsset(path)) {
      writeFileSync(target, content);
      continue;
    }
    try {
      const { code, map } = swc.transformSync(content.toString('utf8'), {
        filename: join(root, path),
        // The map's path is relative to the map, so that dist/ may be moved together with the sources.
        sourceFileName: relative(join(home, dirname(path)), join(root, path)),
        sourceMaps: true,
        configFile: false,
        swcrc: false,
        jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
        module: { type: 'commonjs' },
      });
      const name = path.split('/').pop().replace(/\.ts$/, '.js');
      writeFileSync(target, `${code}//# sourceMappingURL=${name}.map\n`);
      writeFileSync(`${target}.map`, map);
    } catch (error) {
      problems.push(`${path}: ${String(error.message).split('Caused by:')[0].trim()}`);
    }
  }
  if (problems.length > 0)
    throw new SetUpError('These files could not be compiled; dist/ is as it was.', problems);
}

/**
 * The worker wants an inline source map, parses it, and holds it for as long as it lives: 10 MB for the sake of line
 * numbers in stack traces. The code of the bundle is not minified, so its own line numbers do.
 */
function withEmptySourceMap(code) {
  const map = JSON.stringify({ version: 3, sources: [], names: [], mappings: '' });
  const comment = `//# sourceMappingURL=data:application/json;charset=utf-8;base64,${Buffer.from(map).toString('base64')}`;
  return code.slice(0, code.lastIndexOf('//# sourceMappingURL=')) + comment;
}

async function makeBundle(require, root, dist, fresh, isUnchanged) {
  if (isUnchanged && existsSync(join(dist, BUNDLE))) {
    cpSync(join(dist, BUNDLE), join(fresh, BUNDLE));
    return 'kept';
  }
  const workflowsPath = join(root, 'workflows', 'index.ts');
  if (!existsSync(workflowsPath)) return 'left out (there is no workflows/index.ts)';
  const { bundleWorkflowCode, DefaultLogger } = require('@temporalio/worker');
  const lines = [];
  const logger = new DefaultLogger('WARN', ({ message }) => lines.push(message));
  try {
    const converters = join(root, 'workflows', 'readable-payloads.ts');
    const { code } = await bundleWorkflowCode({
      workflowsPath,
      payloadConverterPath: converters,
      failureConverterPath: converters,
      logger,
    });
    writeFileSync(join(fresh, BUNDLE), withEmptySourceMap(code));
    return 'made';
  } catch (error) {
    const plain = stripVTControlCharacters(`${lines.join('\n')}\n${error.message}`);
    const at = Math.max(0, plain.indexOf('ERROR in'));
    throw new SetUpError('The workflows could not be bundled; dist/ is as it was.', [
      plain.slice(at).split('\n').slice(0, 3).join('\n'),
    ]);
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runEntry(async () => {
    requireMachine();
    stopOnSignals();
    await step('build', () => build());
  });
}
