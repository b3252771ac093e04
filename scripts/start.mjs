// `npm start [-- FLAGS]`: sets up what is missing, then runs ContainerOS in the foreground. Flags go to `containeros up`.
import { join } from 'node:path';
import { requireMachine, runEntry } from './set-up/failure.mjs';
import { runInForeground } from './set-up/foreground.mjs';
import { checkoutPath } from './set-up/paths.mjs';
import { stopOnSignals } from './set-up/processes.mjs';
import { setUpToStart } from './set-up/set-up.mjs';
import { readUpFlags } from './set-up/up-flags.mjs';

await runEntry(async () => {
  requireMachine();
  const leaveSignals = stopOnSignals();
  const argv = process.argv.slice(2);
  const found = await setUpToStart(readUpFlags(argv));
  leaveSignals();
  const entry = join(checkoutPath, 'dist', 'workers', 'containeros.js');
  return runInForeground(process.execPath, [entry, 'up', ...argv], { ...process.env, ...found });
});
