// `npm run bench [-- FLAGS]`: sets up what is missing, and runs bench/ (`--help` tells the flags).
// The benchmarks use the test machines of test/support, which the product's build leaves out: both are transpiled into
// a folder of their own, which is removed afterwards.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { build, transpile } from './build.mjs';
import { isRoot } from './set-up/debian-packages.mjs';
import { requireMachine, runEntry, SetUpError } from './set-up/failure.mjs';
import { checkoutPath } from './set-up/paths.mjs';
import { onStop, run, stopOnSignals } from './set-up/processes.mjs';
import { ensureBenchPrograms } from './set-up/bench-tools.mjs';
import { setUpToTest } from './set-up/set-up.mjs';
import { step } from './set-up/steps.mjs';

const FOLDERS = ['bench', 'test/support', 'domain', 'contracts', 'adapters', 'workers'];
const LIMIT_MS = 3 * 60 * 60_000;

await runEntry(async () => {
  requireMachine();
  if (!isRoot()) {
    throw new SetUpError(
      'The benchmarks run Docker Engines of their own, which needs root.',
      [],
      ['Run `sudo env "PATH=$PATH" npm run bench`.'],
    );
  }
  stopOnSignals();
  const found = await setUpToTest({ asRoot: true });
  const programs = await setUpPrograms(process.argv.slice(2));
  await step('build', () => build());
  const folder = makeFolder();
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const forget = onStop(remove);
  try {
    transpile(createRequire(join(checkoutPath, 'package.json')), checkoutPath, folder, sources(), folder);
    const env = { ...process.env, ...found, ...programs };
    delete env.DOCKER_HOST;
    const main = join(folder, 'bench', 'main.js');
    const args = ['--enable-source-maps', main, ...process.argv.slice(2)];
    const { code } = await run(process.execPath, args, {
      cwd: process.cwd(),
      env,
      inherit: true,
      timeoutMs: LIMIT_MS,
    });
    return code ?? 1;
  } finally {
    remove();
    forget();
  }
});

/** Proxies are fetched only for cases of the ingress. */
async function setUpPrograms(args) {
  const at = args.findIndex((arg) => arg === '--only' || arg.startsWith('--only='));
  const isWanted = at < 0 || `${args[at]} ${args[at + 1]}`.includes('ingress');
  if (!isWanted || args.includes('--help')) return {};
  const { path } = await step('programs of the benchmarks', () => ensureBenchPrograms());
  return { CONTAINEROS_BENCH_PROGRAMS: path };
}

function makeFolder() {
  const cache = join(checkoutPath, '.cache');
  mkdirSync(cache, { recursive: true });
  return mkdtempSync(join(cache, 'bench-'));
}

function sources() {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(checkoutPath, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
      .map((entry) => relative(checkoutPath, join(entry.path, entry.name)))
      .map((path) => ({ path, content: readFileSync(join(checkoutPath, path)) })),
  );
}
