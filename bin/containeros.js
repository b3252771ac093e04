#!/usr/bin/env node
// The installed command. It finds the engines that `up` and `join` run (or installs them, once), and hands over.
'use strict';

const ENTRY = '../dist/workers/containeros.js';

async function main() {
  const { requireMachine, runEntry, SetUpError } = await import('../scripts/set-up/failure.mjs');
  await runEntry(async () => {
    requireMachine();
    if (!isBuilt()) {
      throw new SetUpError(
        'ContainerOS is not built: it has no dist/workers/containeros.js.',
        [],
        ['Run `npm run build` in its folder.'],
      );
    }
    const [command, ...flags] = process.argv.slice(2);
    if (command !== 'up' && command !== 'join') return; // the other commands run no engines
    const { readUpFlags } = await import('../scripts/set-up/up-flags.mjs');
    const { asksOnly, engineNames } = readUpFlags(command, flags);
    if (asksOnly) return;
    const { ensureEngines } = await import('../scripts/set-up/engines.mjs');
    const { ENGINES } = await import('../scripts/set-up/engine-releases.mjs');
    const engines = await ensureEngines({ names: engineNames });
    for (const [name, { path }] of Object.entries(engines)) process.env[ENGINES[name].binVariable] = path;
  });
  if (!process.exitCode) require(ENTRY);
}

function isBuilt() {
  try {
    require.resolve(ENTRY);
    return true;
  } catch {
    return false;
  }
}

void main();
