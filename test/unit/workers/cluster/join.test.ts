// What stands on the command line of `containeros join`, and the directories that cannot join.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { createSealer, generateClusterKey } from '../../../../adapters/certificates/seal';
import { formatJoinToken } from '../../../../domain/join-token';
import { openSealer } from '../../../../workers/cluster/cluster-key';
import { runMember } from '../../../../workers/cluster/run-member';
import { joinCluster, parseClusterAddress, readJoinArguments } from '../../../../workers/cluster/join';
import {
  memberTlsFiles,
  readMemberClusterKey,
  readMembership,
  removeMembership,
  writeMemberClusterKey,
  writeMemberKey,
  writeMembership,
} from '../../../../workers/cluster/membership';
import { parseConfig } from '../../../../workers/config';
import { createTestAuthority } from '../../../support/certificates';

test.each([
  ['192.168.1.10', '192.168.1.10:7443'],
  ['192.168.1.10:9000', '192.168.1.10:9000'],
  ['head.example.org', 'head.example.org:7443'],
  ['head.example.org:443', 'head.example.org:443'],
  ['[fd00::1]:9000', '[fd00::1]:9000'],
  ['[fd00::1]', '[fd00::1]:7443'],
  ['fd00::1', '[fd00::1]:7443'],
])('the address %s is %s', (text, expected) => {
  expect(parseClusterAddress(text)).toBe(expected);
});

test.each(['', 'http://192.168.1.10', 'a b', '192.168.1.10:99999', 'host/path', 'user@host'])(
  '"%s" is no address',
  (text) => {
    expect(() => parseClusterAddress(text)).toThrow(/is no address of a cluster/);
  },
);

test('the token may stand anywhere after the address, or in the environment', () => {
  const expected = { address: '10.0.0.1:7443', token: 'cos1.t', flags: ['--node-name', 'b'] };
  expect(readJoinArguments(['10.0.0.1', '--token', 'cos1.t', '--node-name', 'b'], {})).toEqual(expected);
  expect(readJoinArguments(['10.0.0.1', '--node-name', 'b', '--token=cos1.t'], {})).toEqual(expected);
  expect(readJoinArguments(['10.0.0.1', '--node-name', 'b'], { CONTAINEROS_JOIN_TOKEN: 'cos1.t' })).toEqual(
    expected,
  );
});

test.each([
  [[], /address of the cluster is missing/],
  [['--token', 'x'], /address of the cluster is missing/],
  [['10.0.0.1'], /join token is missing/],
  [['10.0.0.1', '--token'], /join token is missing/],
])('%j is refused', (argv, message) => {
  expect(() => readJoinArguments(argv, {})).toThrow(message);
});

describe('data directories', () => {
  let dataDir: string;
  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'containeros-join-'));
  });
  afterEach(() => rmSync(dataDir, { recursive: true }));

  const token = (fingerprint: string) =>
    formatJoinToken({ id: 'abcdefgh', secret: 's'.repeat(32), authorityFingerprint: fingerprint });
  const config = () => parseConfig(['--data-dir', dataDir, '--node-name', 'two'], {}, true, () => '10.0.0.2');
  const membership = {
    nodeId: 'two',
    clusterId: 'c',
    clusterAddress: '10.0.0.1:7443',
    authorityFingerprint: 'a'.repeat(64),
    temporalNamespace: 'default',
    consul: { gossipKey: 'k', serverAddress: '10.0.0.1:8301', token: 't' },
  };
  const address = '10.0.0.1:7443';

  test('a member is one already, and of one cluster at a time', async () => {
    writeMemberKey(config(), 'key');
    writeMembership(config(), membership, { certificatePem: 'certificate', authorityPem: 'authority' });
    await expect(joinCluster(config(), { address, token: token('a'.repeat(64)) })).resolves.toEqual(
      membership,
    );
    await expect(joinCluster(config(), { address, token: token('b'.repeat(64)) })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('containeros leave') as string,
    });
    expect(statSync(memberTlsFiles(config()).keyFile).mode & 0o777).toBe(0o600);
    removeMembership(config());
    expect(readMembership(config())).toBeUndefined();
  });

  test('the key of certificates is for its owner alone, is used without the head, and is forgotten with the rest', async () => {
    writeMemberKey(config(), 'key');
    const clusterKey = generateClusterKey();
    writeMemberClusterKey(config(), clusterKey);
    expect(statSync(join(dataDir, 'membership', 'cluster-key')).mode & 0o777).toBe(0o600);
    const sealed = createSealer(clusterKey).seal('text', 'example.com');
    expect((await openSealer(config(), membership)).open(sealed, 'example.com')).toBe('text');
    removeMembership(config());
    expect(readMemberClusterKey(config())).toBeUndefined();
  });

  test('on the head the key of certificates is made once', async () => {
    const [one, other] = [await openSealer(config(), undefined), await openSealer(config(), undefined)];
    expect(other.open(one.seal('text', 'example.com'), 'example.com')).toBe('text');
    expect(statSync(join(dataDir, 'cluster', 'cluster-key')).mode & 0o777).toBe(0o600);
  });

  test('a control plane does not become a node of another one', async () => {
    mkdirSync(join(dataDir, 'temporal'));
    await expect(joinCluster(config(), { address, token: token('a'.repeat(64)) })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('a control plane of its own') as string,
    });
  });

  test('a token that is none is refused, whoever is at the address', async () => {
    await expect(joinCluster(config(), { address: '127.0.0.1:1', token: 'secret' })).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('does not begin with cos1') as string,
    });
    expect(readdirSync(dataDir)).toEqual([]);
  });

  test.each([
    ['', undefined],
    ['{', /cannot be read: .*JSON.*join again with a new token/],
    ['null', /cannot be read: it is not an object/],
    ['{}', /cannot be read: \/nodeId is missing/],
    [
      JSON.stringify({ ...membership, consul: { token: 1 } }),
      /cannot be read: \/consul\/gossipKey is missing/,
    ],
  ])('a membership that says %j is not one', (text, message) => {
    writeMemberKey(config(), 'key');
    writeFileSync(join(dataDir, 'membership', 'membership.json'), text);
    if (message === undefined) expect(readMembership(config())).toBeUndefined();
    else expect(() => readMembership(config())).toThrow(message);
  });

  test('a node without what it shows is not started', async () => {
    const run = () => runMember(config(), membership, [], '', pino({ level: 'silent' }));
    await expect(run()).rejects.toThrow(/certificate and the key of node two .* cannot be used: ENOENT/);
    const authority = createTestAuthority('c');
    const [one, other] = [1, 2].map(() => authority.issue({ commonName: 'two', organisation: 'c' }));
    const { certificatePem: authorityPem } = authority;
    authority.dispose();
    if (one === undefined || other === undefined) throw new Error('no certificates');
    writeMemberKey(config(), other.keyPem);
    writeMembership(config(), membership, { certificatePem: one.certificatePem, authorityPem });
    await expect(run()).rejects.toThrow(
      /the key is not that of the certificate. .*containeros remove two --force/,
    );
    writeMembership(config(), membership, {
      certificatePem: one.certificatePem,
      authorityPem: other.certificatePem,
    });
    await expect(run()).rejects.toThrow(/the certificate is not one of the authority/);
  });
});
