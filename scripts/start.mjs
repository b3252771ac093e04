// `npm start`: sets up what is missing, then runs ContainerOS in the foreground. Arguments go to `containeros up`.
import { join } from 'node:path';
import { requireNode, runEntry } from './set-up/failure.mjs';
import { runInForeground } from './set-up/foreground.mjs';
import { checkoutPath } from './set-up/paths.mjs';
import { setUpToStart } from './set-up/set-up.mjs';

await runEntry(async () => {
  requireNode();
  const found = await setUpToStart();
  const entry = join(checkoutPath, 'dist', 'workers', 'containeros.js');
  return runInForeground(process.execPath, [entry, 'up', ...process.argv.slice(2)], {
    ...process.env,
    ...found,
  });
});
