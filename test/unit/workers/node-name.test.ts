/** What a machine is called as a node, by its host name or by its user. */

import { isNodeId } from '../../../domain/identity';
import { parseConfig } from '../../../workers/config';
import { nodeNameInWords, readNodeName } from '../../../workers/node-name';

const named = (hostname: string, ...argv: readonly string[]) =>
  parseConfig(
    argv,
    {},
    true,
    () => undefined,
    () => hostname,
  );

test.each([
  ['web-1', 'web-1'],
  ['ip-10-0-0-7.eu-west-1.compute.internal', 'ip-10-0-0-7'],
  ['Build_Server_3', 'build-server-3'],
  ['MacBook-Pro.local', 'macbook-pro'],
  ['web1.', 'web1'],
  ['_web_', 'web'],
  ["anna's pc", 'anna-s-pc'],
  ['zürich', 'z-rich'],
  [`${'a'.repeat(62)}-b.example.com`, 'a'.repeat(62)],
  [`--${'a'.repeat(70)}`, 'a'.repeat(63)],
])('%s is the node %s', (hostname, nodeId) => {
  const name = named(hostname);
  expect(name.nodeId).toBe(nodeId);
  expect(isNodeId(name.nodeId)).toBe(true);
  expect(name.namedAfterHost).toBe(hostname === nodeId ? undefined : hostname);
});

test.each(['', '...', '.example.com', '___', '日本'])(
  'of "%s" there is no name, and it says so',
  (hostname) => {
    expect(() => named(hostname)).toThrow(
      `--node-name is needed: the host name of this machine, "${hostname}"`,
    );
    expect(named(hostname, '--node-name', 'web').nodeId).toBe('web');
  },
);

test('a name that is given is taken as it is, or refused', () => {
  const name = named('Web_1.example.com', '--node-name', 'DB');
  expect([name.nodeId, name.namedAfterHost]).toEqual(['db', undefined]);
  expect(() => named('web', '--node-name', 'db.example.com')).toThrow(
    '--node-name must be a DNS label, not "db.example.com"',
  );
});

test('it is said where a name comes from that nobody typed', () => {
  const refuse = (message: string) => {
    throw new Error(message);
  };
  expect(nodeNameInWords(readNodeName(undefined, 'Web_1.example.com', refuse))).toBe(
    'web-1, after the host name Web_1.example.com; --node-name chooses another',
  );
  expect(nodeNameInWords(readNodeName(undefined, 'web-1', refuse))).toBe('web-1');
});
