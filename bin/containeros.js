#!/usr/bin/env node
// The installed command. It finds (or installs, once) the engines for the commands that run them, and hands over.
'use strict';

/** The others only talk to engines that run elsewhere. */
const COMMANDS_WITH_ENGINES = ['up', 'node'];
const ENTRY = '../dist/workers/containeros.js';

async function main() {
  const { requireNode, runEntry, SetUpError } = await import('../scripts/set-up/failure.mjs');
  await runEntry(async () => {
    requireNode();
    if (!isBuilt()) {
      throw new SetUpError(
        'ContainerOS is not built: it has no dist/workers/containeros.js.',
        [],
        ['Run `npm run build` in its folder.'],
      );
    }
    const [command, ...rest] = process.argv.slice(2);
    const asksOnly = rest.includes('--help') || rest.includes('--version');
    if (!COMMANDS_WITH_ENGINES.includes(command) || asksOnly) return;
    const { ensureEngines } = await import('../scripts/set-up/engines.mjs');
    const { ENGINES } = await import('../scripts/set-up/engine-releases.mjs');
    for (const [name, { path }] of Object.entries(await ensureEngines()))
      process.env[ENGINES[name].binVariable] = path;
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
