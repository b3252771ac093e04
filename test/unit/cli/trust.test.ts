/** Where a machine is made to trust the root, and what is said when it cannot be. */

import { createHostnameAuthority } from '../../../adapters/certificates/hostname-authority';
import { trustCommand, type TrustMachine } from '../../../cli/trust';
import { planTrust, type MachineView } from '../../../cli/trust-stores';
import { authorityKvKey } from '../../../contracts/kv';
import { useApi } from '../api/api-under-test';

import { at, startCli } from './cli-under-test';

const ROOT = { name: 'containeros-0123456789ab', sha1: 'AB'.repeat(20) };

const machineWith = (paths: readonly string[], more: Partial<MachineView> = {}): MachineView => ({
  platform: 'linux',
  home: '/home/me',
  exists: (path) => paths.includes(path),
  list: (folder) =>
    paths
      .filter((path) => path.startsWith(`${folder}/`))
      .map((path) => path.slice(folder.length + 1).split('/')[0] ?? ''),
  has: () => false,
  ...more,
});

/** Each step in a line. */
const planned = (machine: MachineView, isRemoved = false): readonly string[] =>
  planTrust(machine, ROOT, isRemoved).stores.flatMap(({ steps }) =>
    steps.map((step) =>
      step.kind === 'run' ? [step.command, ...step.args].join(' ') : `${step.kind} ${step.file}`,
    ),
  );

const DEBIAN = '/usr/local/share/ca-certificates';

test.each<readonly [string, readonly string[], Partial<MachineView>, readonly string[], readonly string[]]>([
  [
    'Debian',
    [DEBIAN],
    {},
    [`write ${DEBIAN}/${ROOT.name}.crt`, 'update-ca-certificates'],
    [`remove ${DEBIAN}/${ROOT.name}.crt`, 'update-ca-certificates --fresh'],
  ],
  [
    'Fedora',
    ['/etc/pki/ca-trust/source/anchors', DEBIAN],
    {},
    [`write /etc/pki/ca-trust/source/anchors/${ROOT.name}.pem`, 'update-ca-trust extract'],
    [`remove /etc/pki/ca-trust/source/anchors/${ROOT.name}.pem`, 'update-ca-trust extract'],
  ],
  [
    'Arch',
    ['/etc/ca-certificates/trust-source/anchors'],
    {},
    [`write /etc/ca-certificates/trust-source/anchors/${ROOT.name}.crt`, 'trust extract-compat'],
    [`remove /etc/ca-certificates/trust-source/anchors/${ROOT.name}.crt`, 'trust extract-compat'],
  ],
  [
    'SUSE',
    ['/etc/pki/trust/anchors'],
    {},
    [`write /etc/pki/trust/anchors/${ROOT.name}.pem`, 'update-ca-certificates'],
    [`remove /etc/pki/trust/anchors/${ROOT.name}.pem`, 'update-ca-certificates'],
  ],
  [
    'macOS',
    [],
    { platform: 'darwin' },
    ['security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain ROOT'],
    [`security delete-certificate -Z ${ROOT.sha1} -t /Library/Keychains/System.keychain`],
  ],
  [
    'Windows',
    [],
    { platform: 'win32' },
    ['certutil -addstore -f ROOT ROOT'],
    [`certutil -delstore ROOT ${ROOT.sha1}`],
  ],
])('%s', (_system, paths, more, put, taken) => {
  expect(planned(machineWith(paths, more))).toEqual(put);
  expect(planned(machineWith(paths, more), true)).toEqual(taken);
});

test('browsers with stores of their own, when certutil is there', () => {
  const paths = [
    DEBIAN,
    '/home/me/.pki/nssdb/cert9.db',
    '/home/me/.mozilla/firefox/a.default/cert9.db',
    '/home/me/.mozilla/firefox/profiles.ini',
  ];
  const machine = machineWith(paths, { has: (program) => program === 'certutil' });
  expect(planned(machine).slice(2)).toEqual([
    `certutil -A -d sql:/home/me/.pki/nssdb -t C,, -n ${ROOT.name} -i ROOT`,
    `certutil -A -d sql:/home/me/.mozilla/firefox/a.default -t C,, -n ${ROOT.name} -i ROOT`,
  ]);
  expect(planned(machine, true).slice(2)).toEqual([
    `certutil -D -d sql:/home/me/.pki/nssdb -n ${ROOT.name}`,
    `certutil -D -d sql:/home/me/.mozilla/firefox/a.default -n ${ROOT.name}`,
  ]);
  const without = planTrust(machineWith(paths), ROOT, false);
  expect(without.stores).toHaveLength(1);
  expect(without.notes).toEqual([expect.stringContaining('install certutil')]);
});

describe('the command', () => {
  const use = useApi();
  const bed = async (given: Partial<TrustMachine> = {}) => {
    const { certificatePem } = await createHostnameAuthority({ clusterId: 'c1', nowMs: Date.now() });
    await use.api.store.transact([
      {
        kind: 'set',
        key: authorityKvKey('hostnames'),
        value: { name: 'hostnames', certificatePem, sealedKey: 'x', createdAtMs: 0 },
      },
    ]);
    const done: string[] = [];
    const machine: TrustMachine = {
      ...machineWith([DEBIAN]),
      isPrivileged: true,
      write: (file, text) =>
        void done.push(`write ${file} ${text === certificatePem ? 'root' : 'something else'}`),
      remove: (file) => void done.push(`remove ${file}`),
      run: (command, args) => void done.push([command, ...args].join(' ')),
      ...given,
    };
    const run = (...flags: string[]) =>
      startCli(['trust', ...flags], { ...at(use.api.url), commands: [trustCommand(machine)] }).ended;
    return { run, done, certificatePem };
  };

  test('puts the root in, says where, and takes it out again', async () => {
    const { run, done } = await bed();
    const put = await run();
    expect(put.end).toBe(0);
    expect(put.out).toContain('This machine trusts CN=ContainerOS hostnames of cluster c1, O=ContainerOS.');
    expect(put.out).toContain('  put into the system (Debian, Ubuntu, Alpine)\n');
    expect(done).toEqual([
      expect.stringMatching(
        /^write \/usr\/local\/share\/ca-certificates\/containeros-[0-9a-f]{12}\.crt root$/,
      ),
      'update-ca-certificates',
    ]);
    const taken = await run('--uninstall');
    expect(taken.out).toContain('does not trust CN=ContainerOS hostnames');
    expect(done.slice(2)).toEqual([expect.stringMatching(/^remove /), 'update-ca-certificates --fresh']);
  });

  test('prints the root and changes nothing', async () => {
    const { run, done, certificatePem } = await bed({ isPrivileged: false });
    expect((await run('--print')).out).toBe(certificatePem);
    expect(done).toEqual([]);
  });

  test('says what it needs when it may not, and what went wrong', async () => {
    const { run, done } = await bed({ isPrivileged: false });
    expect(await run()).toMatchObject({
      end: 'forbidden',
      err: 'containeros: The stores of this system belong to root. Run the same again with sudo, or take the root with --print.\n',
    });
    expect(done).toEqual([]);
    const failing = await bed({
      run: () => {
        throw new Error('the disk is full');
      },
    });
    expect((await failing.run()).err).toContain(
      'Not everything could be done: the system (Debian, Ubuntu, Alpine): the disk is full.',
    );
    const unknown = await bed({ exists: () => false });
    expect(await unknown.run()).toMatchObject({
      end: 'not_found',
      err: expect.stringContaining('Install the package ca-certificates') as string,
    });
  });
});
