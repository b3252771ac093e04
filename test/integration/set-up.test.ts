// Set-up against what only root can make: a full disk, an engine of another user, and a machine on which a Docker Engine
// is installed but does not run; and against real Debian packages.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { startMachine } from '../support/machine';
import {
  makeSandbox,
  pinRelease,
  projectRoot,
  sha256,
  startReleaseSite,
  whole,
  zipOf,
  type Sandbox,
} from '../unit/scripts/sandbox';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = makeSandbox();
});

afterEach(() => sandbox.dispose());

async function shell(script: string, env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn('unshare', ['--mount', 'sh', '-c', script], { cwd: projectRoot, env });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  await once(child, 'close');
  return output;
}

describe('a full disk', () => {
  const KB = 1_000;
  it.each([
    ['during the download', randomBytes(2_000 * KB)],
    ['during the unpacking', Buffer.alloc(20_000 * KB, '\n')],
  ])('%s is said, leaves nothing behind, and needs only room to go on', async (_when, padding) => {
    const archive = zipOf(
      'consul',
      Buffer.concat([Buffer.from('#!/bin/sh\necho "Consul v1.20.1"\nexit 0\n'), padding]),
    );
    const site = await startReleaseSite(whole(archive));
    const releases = pinRelease(sandbox, 'consul', sha256(archive));
    const cache = join(sandbox.folder, 'small');
    const install = `"${process.execPath}" scripts/engines.mjs --only consul --releases "${releases}"; echo "status $?"`;
    const output = await shell(
      `mkdir "${cache}" && mount -t tmpfs -o size=1m tmpfs "${cache}" || exit 1
       ${install}; ls -A "${cache}/engines"; echo --; mount -o remount,size=64m "${cache}"; ${install}`,
      {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        HOME: sandbox.folder,
        CONTAINEROS_CACHE_DIR: cache,
        CONTAINEROS_DOWNLOAD_BASE: site.base,
      },
    );
    await site.close();
    const [before, after] = output.split('\n--\n');
    expect(before).toMatch(/release: .*no space is left on the disk/);
    expect(before).toMatch(/make room, or set CONTAINEROS_CACHE_DIR/);
    expect(before).toMatch(/status 1\n\.locks$/);
    expect(after).toMatch(/^consul\trelease\t.*\nstatus 0$/m);
  });
});

const onDebian = existsSync('/usr/bin/dpkg-deb') ? describe : describe.skip;

/** Where there are no Debian packages, set-up leaves these programs out. */
onDebian('the programs of packages that are only unpacked', () => {
  const LIBRARIES = `usr/lib/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`;
  const LIBFAKETIME = `${LIBRARIES}/faketime/libfaketimeMT.so.1`;

  function makePackage(name: string, version: string, files: readonly string[]): void {
    const tree = join(sandbox.folder, 'trees', name);
    for (const file of ['DEBIAN/control', ...files])
      mkdirSync(dirname(join(tree, file)), { recursive: true });
    const fields = {
      Package: name,
      Version: version,
      Architecture: 'all',
      Maintainer: 'test',
      Description: 'test',
    };
    const control = Object.entries(fields).map(([field, value]) => `${field}: ${value}\n`);
    writeFileSync(join(tree, 'DEBIAN/control'), control.join(''));
    for (const file of files) writeFileSync(join(tree, file), '#!/bin/sh\n', { mode: 0o755 });
    mkdirSync(join(sandbox.folder, 'debs'), { recursive: true });
    execFileSync('dpkg-deb', ['--build', tree, join(sandbox.folder, 'debs')]);
  }

  /** With an archive that has these packages. */
  async function unpack(pebbleVersion: string): Promise<string> {
    makePackage('docker-registry', '2.8.2', ['usr/bin/docker-registry']);
    makePackage('busybox-static', '1.35.0', ['bin/busybox']);
    makePackage('libfaketime', '0.9.10', [LIBFAKETIME]);
    makePackage('pebble', pebbleVersion, ['usr/bin/pebble', 'usr/bin/pebble-challtestsrv']);
    makePackage('bind9', '9.18.1', ['usr/sbin/named']);
    makePackage('bind9-libs', '9.18.1', [`${LIBRARIES}/libdns-9.18.1.so`, `${LIBRARIES}/bind/filter-a.so`]);
    sandbox.addProgram(
      'apt-get',
      `[ "$*" != "install --simulate --no-install-recommends bind9" ] || {
         printf '%s\\n' 'Inst bind9-libs (9.18.1 test [amd64])' 'Inst bind9 (9.18.1 test [amd64])' 'Conf bind9'
         exit 0
       }
       [ "$1" = download ] || { echo "unexpected: apt-get $*" >&2; exit 100; }
       shift; for name; do cp "${sandbox.folder}/debs/$name"_*.deb . || exit 100; done`,
    );
    const script = `
      import { runEntry } from './scripts/set-up/failure.mjs';
      import { ensureUnpackedPackages } from './scripts/set-up/test-tools.mjs';
      await runEntry(async () => void console.log((await ensureUnpackedPackages()).found));`;
    const PATH = `${sandbox.env['PATH']}:/usr/bin:/bin`;
    const { output } = await sandbox.run(['--input-type=module', '--eval', script], { PATH }).ended;
    return output;
  }

  const unpacked = (): string[] => {
    const folder = join(String(sandbox.env['CONTAINEROS_CACHE_DIR']), 'test-programs');
    return existsSync(folder) ? readdirSync(folder).flatMap((key) => readdirSync(join(folder, key))) : [];
  };

  it('are all put into one folder, once', async () => {
    expect(await unpack('2.4.0+ds1-2+b4')).toMatch(/^unpacked .*pebble, bind9$/m);
    expect(unpacked().sort()).toEqual([
      'busybox',
      'docker-registry',
      // What the machine lacks of what a name server needs, and not what that may load from elsewhere.
      'libdns-9.18.1.so',
      'libfaketimeMT.so.1',
      'named',
      'pebble',
      'pebble-challtestsrv',
    ]);
    expect(await unpack('2.4.0+ds1-2+b4')).toBe('up to date\n');
  });

  it('are refused when they are older than what the tests need', async () => {
    const output = await unpack('2.4.0~rc1-1');
    expect(output).toMatch(/pebble of this distribution is 2\.4\.0~rc1-1; the tests need 2\.4\.0 or later/);
    expect(output).toMatch(/Way out:/);
    expect(unpacked()).toEqual([]);
  });
});

it('tells a user who may not use the Docker Engine what to do', async () => {
  const socket = join(sandbox.folder, 'docker.sock');
  const server = createServer((_request, response) =>
    response.writeHead(200, { 'api-version': '1.41' }).end('OK'),
  );
  server.listen(socket);
  await once(server, 'listening');
  chmodSync(socket, 0o660);
  // Where any user may read them.
  chmodSync(sandbox.folder, 0o755);
  cpSync(join(projectRoot, 'scripts'), join(sandbox.folder, 'scripts'), { recursive: true });
  const script = `
    import { ensureDockerEngine } from '${sandbox.folder}/scripts/set-up/docker-engine.mjs';
    import { runEntry } from '${sandbox.folder}/scripts/set-up/failure.mjs';
    await runEntry(() => ensureDockerEngine());`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: '/',
    uid: 65_534,
    gid: 65_534,
    env: { PATH: '/usr/bin:/bin', DOCKER_HOST: `unix://${socket}` },
  });
  let output = '';
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  server.close();
  expect(output).toMatch(/this user may not use it: permission was denied/);
  expect(output).toMatch(/usermod -aG docker/);
  expect(code).toBe(1);
});

it('starts a Docker Engine that is installed but does not run, once', async () => {
  const machine = await startMachine();
  try {
    const script = `
      import { ensureDockerEngine } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'docker-engine.mjs'))};
      import { runEntry } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'failure.mjs'))};
      await runEntry(async () => void console.log((await ensureDockerEngine()).found));`;
    const ensure = `
      unset DOCKER_HOST XDG_RUNTIME_DIR
      CONTAINEROS_CACHE_DIR="${sandbox.folder}/cache" "${process.execPath}" --input-type=module --eval "$1" 2>&1`;
    // This computer's own engine keeps its data to itself.
    await machine.exec(['sh', '-c', 'mkdir -p /var/lib/docker && mount -t tmpfs tmpfs /var/lib/docker']);
    const both = await machine.exec(['sh', '-c', `(${ensure}) & (${ensure}); wait`, 'sh', script]);
    expect(both.stdout).toMatch(/Docker Engine: starting it/);
    expect(both.stdout.match(/^started, API 1\.\d+ at unix:\/\/\/var\/run\/docker\.sock$/gm)).toHaveLength(1);
    expect(both.stdout.match(/^API 1\.\d+ at unix:\/\/\/var\/run\/docker\.sock$/gm)).toHaveLength(1);
    const third = await machine.exec(['sh', '-c', ensure, 'sh', script]);
    expect(third.stdout).toMatch(/^API 1\.\d+ at unix:\/\/\/var\/run\/docker\.sock\n$/);
  } finally {
    await machine.dispose();
  }
}, 60_000);
