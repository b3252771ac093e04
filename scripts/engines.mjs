// Installs or finds the engines on their own: `node scripts/engines.mjs [--only NAME] [--releases FILE] [--copy-to DIR]`.
// Prints one line per engine: its name, where it came from and its path, separated by tabs.
// --releases FILE overrides fields of the pinned engines, as JSON { name: { releases, needsBytes } }: for the tests.
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ENGINES } from './set-up/engine-releases.mjs';
import { ensureEngines } from './set-up/engines.mjs';
import { requireMachine, runEntry } from './set-up/failure.mjs';
import { stopOnSignals } from './set-up/processes.mjs';

await runEntry(async () => {
  requireMachine();
  stopOnSignals();
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      releases: { type: 'string' },
      'copy-to': { type: 'string' },
    },
  });
  const replaced = values.releases === undefined ? {} : JSON.parse(readFileSync(values.releases, 'utf8'));
  const engines = Object.fromEntries(
    Object.entries(ENGINES).map(([name, engine]) => [name, { ...engine, ...replaced[name] }]),
  );
  const found = await ensureEngines({ names: values.only ?? Object.keys(engines), engines });
  for (const [name, { path, from }] of Object.entries(found)) {
    console.log(`${name}\t${from}\t${path}`);
    if (values['copy-to'] !== undefined) {
      mkdirSync(values['copy-to'], { recursive: true });
      copyFileSync(path, join(values['copy-to'], name));
    }
  }
});
