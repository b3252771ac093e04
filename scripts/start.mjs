// `npm start [-- FLAGS]` sets up what is missing, then runs `containeros up` with these flags in the foreground;
// `npm start -- join ADDRESS --token TOKEN [FLAGS]` runs `containeros join` in its place.
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
  const given = process.argv.slice(2);
  const [command, ...flags] = given[0] === 'join' ? given : ['up', ...given];
  const found = await setUpToStart(readUpFlags(command, flags));
  leaveSignals();
  const entry = join(checkoutPath, 'dist', 'workers', 'containeros.js');
  return runInForeground(process.execPath, [entry, command, ...flags], { ...process.env, ...found });
});
