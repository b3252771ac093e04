// `npm run cluster [-- N]`: sets up what is missing, and runs a test cluster of N nodes on this computer until Ctrl-C.
// `npm run cluster -- COMMAND…`: does something to a cluster that runs, as `help` tells.
// The cluster runs in this very process, out of the sources: whatever ends it ends the cluster, and leaves no files.
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { isRoot } from './set-up/debian-packages.mjs';
import { requireMachine, runEntry, SetUpError } from './set-up/failure.mjs';
import { checkoutPath } from './set-up/paths.mjs';
import { stopOnSignals } from './set-up/processes.mjs';
import { setUpMachines } from './set-up/set-up.mjs';
import { step } from './set-up/steps.mjs';

const USAGE = [
  '`npm run cluster -- 3 [--clocks] [--keep DIR]` starts a cluster of three nodes; DIR gets its logs at the end.',
  '`npm run cluster -- [--cluster N] help` tells what can be done to one that runs.',
];
const DEFAULT_NODES = 3;
const MAX_NODES = 100;
/** The folders and sockets of test/support/world.ts and test/support/cluster/main.ts. */
const WORLDS_FOLDER = join(tmpdir(), 'containeros-test');
const SOCKET = 'cluster.sock';

const isValueOf = (before) => before === '--keep' || before === '--cluster';

await runEntry(async () => {
  requireMachine();
  if (!isRoot()) {
    throw new SetUpError(
      'A cluster of test machines has network namespaces and Docker Engines, which needs root.',
      [],
      ['Run `sudo env "PATH=$PATH" npm run cluster`.'],
    );
  }
  const argv = process.argv.slice(2);
  // What follows a command is the command's, also when it looks like a flag.
  const commandAt = argv.findIndex((word, i) => /^[a-z]/.test(word) && !isValueOf(argv[i - 1]));
  const own = commandAt === -1 ? argv : argv.slice(0, commandAt);
  const { values, positionals } = readFlags(own);
  if (commandAt !== -1) return send(argv.slice(commandAt), values.cluster);
  return start(readNodes(positionals), values);
});

function readFlags(args) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { clocks: { type: 'boolean' }, keep: { type: 'string' }, cluster: { type: 'string' } },
    });
  } catch (error) {
    throw new SetUpError(`${error.message}.`, [], USAGE);
  }
}

function readNodes([text = String(DEFAULT_NODES), ...more]) {
  const nodes = Number(text);
  if (more.length > 0 || !Number.isInteger(nodes) || nodes < 1 || nodes > MAX_NODES) {
    throw new SetUpError(
      `How many nodes? A number from 1 to ${MAX_NODES}, not "${[text, ...more].join(' ')}".`,
      [],
      USAGE,
    );
  }
  return nodes;
}

async function start(nodes, { clocks = false, keep }) {
  const leaveSignals = stopOnSignals();
  const found = await setUpMachines();
  await step('build', () => build());
  leaveSignals();
  // The machines choose their engines themselves; one that the user has for other work must not be touched.
  Object.assign(process.env, found);
  delete process.env.DOCKER_HOST;
  const require = createRequire(join(checkoutPath, 'package.json'));
  runTypeScript(require);
  const { runClusterMain } = require('./test/support/cluster/main.ts');
  const status = await runClusterMain({
    nodes,
    clocks,
    keep: keep === undefined ? undefined : resolve(keep),
  });
  process.exit(status); // what was under way when it was stopped would go on for a while
}

/** Lets `require` take TypeScript, without checking its types. */
function runTypeScript(require) {
  const { transformFileSync } = require('@swc/core');
  require.extensions['.ts'] = (module, file) => {
    const { code } = transformFileSync(file, {
      configFile: false,
      swcrc: false,
      sourceMaps: 'inline',
      jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
      module: { type: 'commonjs' },
    });
    module._compile(code, file);
  };
  process.setSourceMapsEnabled(true);
}

// ---- commands to a cluster that runs ----

async function send(words, wanted) {
  const sockets = [];
  for (const world of existsSync(WORLDS_FOLDER) ? readdirSync(WORLDS_FOLDER) : []) {
    const socket = await open(join(WORLDS_FOLDER, world, SOCKET));
    if (socket !== undefined) sockets.push({ world, socket });
  }
  const fitting = sockets.filter(({ world }) => wanted === undefined || world === wanted);
  for (const each of sockets) if (fitting.length !== 1 || each !== fitting[0]) each.socket.destroy();
  if (fitting.length !== 1) {
    const worlds = sockets.map(({ world }) => world).join(', ');
    throw new SetUpError(
      sockets.length === 0 ? 'No cluster runs.' : `These clusters run: ${worlds}.`,
      [],
      [sockets.length === 0 ? USAGE[0] : 'Say which one, with --cluster N before the command.'],
    );
  }
  const [{ socket }] = fitting;
  socket.write(`${JSON.stringify(words)}\n`);
  for await (const line of createInterface({ input: socket })) {
    const { ok, text } = JSON.parse(line);
    socket.destroy();
    if (ok) console.log(text);
    else console.error(text);
    return ok ? 0 : 1;
  }
  throw new SetUpError('The cluster ended before it answered.');
}

/** Undefined where nobody listens, as after a crash. */
function open(path) {
  return new Promise((resolveSocket) => {
    const socket = connect(path);
    socket.once('connect', () => resolveSocket(socket));
    socket.once('error', () => resolveSocket(undefined));
  });
}
