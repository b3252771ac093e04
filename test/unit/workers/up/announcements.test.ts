/** What is printed when everything runs: commands in it work where, and as, they are typed. */

import { createJoinTokens } from '../../../../api/join/join-tokens';
import { parseConfig } from '../../../../workers/config';
import { readJoinArguments } from '../../../../workers/cluster/join';
import { joinText, readyText } from '../../../../workers/up/announcements';
import type { Start } from '../../../../workers/up/command-here';
import { createMemoryStore } from '../../../support/memory-store';

const installed: Start = {
  script: '/usr/local/bin/containeros',
  entry: '/usr/local/lib/node_modules/containeros/dist/workers/containeros.js',
  node: '/usr/bin/node',
  isRoot: true,
};
const entry = '/home/me/containeros/dist/workers/containeros.js';
const byNpm: Start = { ...installed, script: entry, entry };
const byFile: Start = { ...byNpm, script: '/home/me/containeros/bin/containeros.js' };

const made = (clusterAddress: string) =>
  createJoinTokens({
    store: createMemoryStore(),
    clusterAddress,
    authorityFingerprint: 'a'.repeat(64),
    nowMs: Date.now,
  }).create({});

test.each<readonly [string, Start, string]>([
  ['installed', installed, 'containeros'],
  ['in a clone, by npm start', byNpm, 'npm start --'],
  ['in a clone, by its file', byFile, 'node /home/me/containeros/bin/containeros.js'],
])('the command to join is one that can be run as it is: %s', async (_how, start, program) => {
  const { command, token } = await made('10.0.0.1:7443');
  const text = joinText(command, 'make another', start);
  const [printed = ''] = text.split('\n').filter((line) => line.startsWith('  '));
  expect(printed).toBe(`  ${program} join 10.0.0.1:7443 --token ${token}`);
  const [, argv = ''] = printed.split(' join ');
  expect(readJoinArguments(argv.split(' '), {})).toEqual({ address: '10.0.0.1:7443', token, flags: [] });
  expect(text.includes('in its clone of ContainerOS')).toBe(start === byNpm);
  expect(text).toContain('For more machines: make another\n');
});

test('an address with brackets is not taken for a pattern by a shell', async () => {
  const { command } = await made('[fd00::1]:7443');
  expect(joinText(command, '', byNpm)).toContain("npm start -- join '[fd00::1]:7443' --token cos1.");
});

test('the name of the node is said when it is not the host name', () => {
  const ready = (hostname: string) =>
    readyText(
      parseConfig(
        [],
        {},
        true,
        () => undefined,
        () => hostname,
      ),
      { passwordFile: '/p', passwordIsNew: true },
      '1.2 s',
      { http: 80, https: 443 },
      installed,
    );
  expect(ready('Web_1.example.com')).toContain(
    '\n  Node             web-1, after the host name Web_1.example.com; --node-name chooses another\n',
  );
  expect(ready('web-1')).not.toContain('  Node  ');
  expect(ready('web-1')).toMatch(/^\nContainerOS is ready \(1\.2 s\)\.\n\n {2}API/);
});
