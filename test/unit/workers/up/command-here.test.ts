/** What is typed to run a command, wherever the program was started from. */

import { parseConfig } from '../../../../workers/config';
import { commandHere, type Start } from '../../../../workers/up/command-here';

const clone: Start = {
  script: '/home/me/containeros/dist/workers/containeros.js',
  entry: '/home/me/containeros/dist/workers/containeros.js',
  node: '/usr/bin/node',
  isRoot: true,
};
const installed: Start = { ...clone, script: '/usr/local/bin/containeros' };

const trust = (start: Start, ...flags: readonly string[]) =>
  commandHere(['trust'], parseConfig(flags, {}, start.isRoot), start, true);

test('is the command where there is one, and else its file, which works from any folder', () => {
  expect(trust(installed)).toBe('containeros trust');
  expect(trust(clone)).toBe('node /home/me/containeros/bin/containeros.js trust');
  expect(trust({ ...clone, script: '/home/me/containeros/bin/containeros.js' })).toBe(trust(clone));
  expect(trust({ ...clone, entry: "/home/it's me/dist/workers/containeros.js" })).toBe(
    "node '/home/it'\\''s me/bin/containeros.js' trust",
  );
});

test('is run by root where it has to be, by a Node.js that root finds', () => {
  const user = { ...installed, isRoot: false };
  expect(trust(user, '--data-dir', '/srv/data')).toBe('sudo containeros trust --data-dir /srv/data');
  // Its own default is another one for root.
  expect(trust(user)).toMatch(/^sudo containeros trust --data-dir \/.+\/containeros$/);
  expect(trust({ ...clone, isRoot: false, node: '/home/me/.nvm/node' }, '--data-dir', '/d')).toMatch(
    /^sudo \/home\/me\/\.nvm\/node \/home\/me\/containeros\/bin\/containeros\.js trust/,
  );
  const list = commandHere(['join-token', 'create'], parseConfig([], {}, false), user);
  expect(list).toBe('containeros join-token create');
});

test('says where the API is and who asks, but shows no secret', () => {
  expect(trust(installed, '--api-port', '8001')).toBe('containeros trust --api http://127.0.0.1:8001');
  expect(trust(installed, '--dev')).toBe('CONTAINEROS_PASSWORD=dev containeros trust');
  expect(trust({ ...installed, isRoot: false }, '--dev')).toBe(
    'sudo env CONTAINEROS_PASSWORD=dev containeros trust',
  );
  expect(trust(installed, '--password', 'a secret one')).toBe('containeros trust --password-file FILE');
});
