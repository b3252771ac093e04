// A folder is removed although a write under way makes one more file in it.
import { join } from 'node:path';
import { makeSandbox, projectRoot } from './sandbox';

it('is removed whole while a file is being made in it', async () => {
  const sandbox = makeSandbox();
  const module = JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'folders.mjs'));
  // The file is opened beside the removal, in a thread of its own: in some of the rounds between the listing and the end.
  const script = `
    import { close, existsSync, mkdirSync, open } from 'node:fs';
    import { removeFolder } from ${module};
    const folder = ${JSON.stringify(join(sandbox.folder, 'work'))};
    let left = 0;
    for (let round = 0; round < 500; round += 1) {
      mkdirSync(folder + '/whole', { recursive: true });
      const opened = new Promise((done) =>
        open(folder + '/archive', 'w', (error, file) => (error ? done() : close(file, done))),
      );
      removeFolder(folder);
      if (existsSync(folder)) left += 1;
      await opened;
    }
    console.log('left', left);`;
  const { output } = await sandbox.run(['--input-type=module', '--eval', script]).ended;
  sandbox.dispose();
  expect(output).toBe('left 0\n');
});
