// Engines come whole or not at all, from whichever way works, and what did not work is told.
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import {
  cutOff,
  enginesIn,
  makeSandbox,
  pinRelease,
  projectRoot,
  sha256,
  sha512,
  stalled,
  startReleaseSite,
  tarGzOf,
  until,
  whole,
  zipOf,
  type ReleaseSite,
  type Sandbox,
} from './sandbox';

const CONSUL = 'echo "Consul v1.20.1"';
/** Incompressible, so that half an archive is half of the file. */
const padding = randomBytes(100_000).toString('base64');
const binary = Buffer.from(`#!/bin/sh\n${CONSUL}\nexit 0\n${padding}\n`);
const archive = zipOf('consul', binary);
const consulFolder = expect.stringMatching(/^consul-1\.20\.1-linux-(amd64|arm64)$/) as string;

let sandbox: Sandbox;
let site: ReleaseSite;

beforeEach(async () => {
  sandbox = makeSandbox();
  site = await startReleaseSite(whole(archive));
});

afterEach(async () => {
  await site.close();
  sandbox.dispose();
});

const install = (digest = sha256(archive), needsBytes?: number, env: NodeJS.ProcessEnv = {}) =>
  sandbox.run(
    [
      'scripts/engines.mjs',
      '--only',
      'consul',
      '--releases',
      pinRelease(sandbox, 'consul', digest, needsBytes),
    ],
    {
      CONTAINEROS_DOWNLOAD_BASE: site.base,
      ...env,
    },
  );

const installCaddy = (digest = sha256(archive), env: NodeJS.ProcessEnv = {}) =>
  sandbox.run(
    ['scripts/engines.mjs', '--only', 'caddy', '--releases', pinRelease(sandbox, 'caddy', digest)],
    { CONTAINEROS_DOWNLOAD_BASE: site.base, ...env },
  );

describe('the pinned release', () => {
  it('is downloaded once, and then taken from the cache', async () => {
    const first = await install().ended;
    expect(first.output).toMatch(/^consul\trelease\t/m);
    expect(first.code).toBe(0);
    const second = await install().ended;
    expect(second.output).toMatch(/^consul\tcache\t/m);
    expect(second.code).toBe(0);
    expect(site.requests).toEqual(['/consul.zip']);
    expect(enginesIn(sandbox)).toEqual([consulFolder]);
  });

  it('may be a tar.gz with other files before the program', async () => {
    const content = Buffer.from('#!/bin/sh\necho "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"\n');
    const tar = tarGzOf([
      ['LICENSE', Buffer.alloc(70_000, 'x')],
      ['temporal', content],
    ]);
    site.answer = whole(tar);
    const releases = pinRelease(sandbox, 'temporal', sha256(tar));
    const run = sandbox.run(['scripts/engines.mjs', '--only', 'temporal', '--releases', releases], {
      CONTAINEROS_DOWNLOAD_BASE: `${site.base}/`,
    });
    expect((await run.ended).output).toMatch(/^temporal\trelease\t/m);
  });

  it('may be of Caddy, which tells its version together with the checksum of its module', async () => {
    const content = Buffer.from(
      '#!/bin/sh\necho "v2.11.9 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4="\n',
    );
    const tar = tarGzOf([
      ['LICENSE', Buffer.alloc(10_000, 'x')],
      ['README.md', Buffer.alloc(3_000, 'x')],
      ['caddy', content],
    ]);
    site.answer = whole(tar);
    // Debian's, which is on some machines.
    sandbox.addProgram('caddy', 'echo 2.6.2');
    const { code, output } = await installCaddy(sha256(tar)).ended;
    expect(output).toMatch(/^caddy\trelease\t/m);
    expect(code).toBe(0);
    expect(site.requests).toEqual(['/caddy.tar.gz']);
    expect(enginesIn(sandbox)).toEqual([expect.stringMatching(/^caddy-2\.11\.9-linux-(amd64|arm64)$/)]);
  });

  describe('of which only the publisher has a checksum', () => {
    const tar = tarGzOf([['caddy', Buffer.from('#!/bin/sh\necho v2.11.9\n')]]);
    const other = 'f'.repeat(128);
    const installListed = (list: string) => {
      site.answer = (request, response) => {
        response.end(request.url === '/checksums.txt' ? list : tar);
      };
      const releases = pinRelease(sandbox, 'caddy', undefined);
      return sandbox.run(['scripts/engines.mjs', '--only', 'caddy', '--releases', releases], {
        CONTAINEROS_DOWNLOAD_BASE: site.base,
      }).ended;
    };

    it('is checked by its list', async () => {
      const { code, output } = await installListed(
        `${other}  caddy.zip\n${sha512(tar)}  caddy.tar.gz\n${other}  caddy.tar.gz.sbom\n`,
      );
      expect(output).toMatch(/^caddy\trelease\t/m);
      expect(code).toBe(0);
      expect(site.requests).toEqual(['/checksums.txt', '/caddy.tar.gz']);
    });

    it.each([
      ['says otherwise', `${other}  caddy.tar.gz\n`, /SHA-512 is [0-9a-f]{128}, not the published f{128}/],
      [
        'does not name it',
        `${other}  caddy.zip\n<html>\n`,
        /the list of checksums at .*checksums\.txt has no SHA-512 of caddy\.tar\.gz/,
      ],
      ['is far too long', 'x'.repeat(2_000_000), /it is far too long for a list of checksums/],
    ])('is not taken when its list %s', async (_what, list, said) => {
      const { code, output } = await installListed(list);
      expect(output).toMatch(said);
      expect(code).toBe(1);
      expect(enginesIn(sandbox)).toEqual([]);
    });
  });

  it.each<[string, () => void, RegExp]>([
    [
      'a file that is not the published one',
      () => (site.answer = whole(zipOf('consul', Buffer.from('evil')))),
      /SHA-256 is [0-9a-f]{64}, not the pinned/,
    ],
    [
      'a connection cut in the middle',
      () => (site.answer = cutOff(archive)),
      /release: .*(cut|ended after|terminated)/,
    ],
    [
      'a server that stalls',
      () => (site.answer = stalled(archive)),
      /the server sent nothing for 2 s \(after \d+ bytes\)/,
    ],
    [
      'a file that is not there',
      () => (site.answer = (_request, response) => response.writeHead(404).end('no')),
      /the server answered 404/,
    ],
  ])('is not taken from %s', async (_what, prepare, said) => {
    prepare();
    const { code, output } = await install(undefined, undefined, { CONTAINEROS_DOWNLOAD_STALL_MS: '2000' })
      .ended;
    expect(output).toMatch(said);
    expect(output).toMatch(/Consul 1\.20\.1 could not be had/);
    expect(output).not.toMatch(/ at .*\.mjs:\d+/);
    expect(code).toBe(1);
    expect(enginesIn(sandbox)).toEqual([]);
  });

  it('is not taken when its program tells another version', async () => {
    const old = zipOf('consul', Buffer.from('#!/bin/sh\necho "Consul v1.19.9"\n'));
    site.answer = whole(old);
    const { output } = await install(sha256(old)).ended;
    expect(output).toMatch(
      /the consul that came of it is Consul 1\.19\.9; Consul 1\.20\.1 or a later patch of it is needed/,
    );
    expect(enginesIn(sandbox)).toEqual([]);
  });

  it('is not begun without room for it', async () => {
    const { output } = await install(sha256(archive), 1e18).ended;
    expect(output).toMatch(/no space: .* MB free, and 1000000000000 MB are needed/);
    expect(site.requests).toEqual([]);
  });

  it('is downloaded once by two set-ups at the same time', async () => {
    let release = (): void => {};
    site.answer = (_request, response) => {
      release = () => response.end(archive);
    };
    const first = install();
    await until(() => site.requests.length === 1, 'the first one downloads');
    const second = install();
    await until(() => second.output().includes('waiting for process'), 'the second one waits');
    release();
    expect((await first.ended).output).toMatch(/^consul\trelease\t/m);
    expect((await second.ended).output).toMatch(/^consul\tcache\t/m);
    expect(site.requests).toHaveLength(1);
  });

  it.each([
    ['SIGKILL', null],
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('is downloaded anew after %s in the middle', async (signal, status) => {
    site.answer = stalled(archive);
    const first = install();
    await until(() => site.requests.length === 1, 'the download is under way');
    await until(() => enginesIn(sandbox).length === 1, 'there is a work folder');
    first.child.kill(signal);
    expect((await first.ended).code).toBe(status);
    if (signal !== 'SIGKILL') expect(enginesIn(sandbox)).toEqual([]);
    site.answer = whole(archive);
    expect((await install().ended).output).toMatch(/^consul\trelease\t/m);
    expect(enginesIn(sandbox)).toEqual([consulFolder]);
  });

  it('replaces what is in its place but is not whole', async () => {
    await install().ended;
    const [name = ''] = enginesIn(sandbox);
    const path = join(String(sandbox.env['CONTAINEROS_CACHE_DIR']), 'engines', name, 'consul');
    writeFileSync(path, 'half');
    expect((await install().ended).output).toMatch(/^consul\trelease\t/m);
    expect(statSync(path).size).toBe(binary.length);
  });
});

/** Go that makes the program this one line, whatever it is asked to build; `first` may read its arguments. */
const goThatBuilds = (line: string, first = ''): string =>
  `case "$1" in env) echo go1.26.0; exit 0 ;; list) exit 0 ;; build) ;; *) exit 9 ;; esac
   ${first}
   out=
   while [ $# -gt 0 ]; do if [ "$1" = -o ]; then out=$2; fi; shift; done
   printf '#!/bin/sh\\n%s\\n' "${line.replaceAll('"', '\\"')}" > "$out"; /bin/chmod +x "$out"`;

describe('other ways', () => {
  it('take the path in the variable without asking', async () => {
    const path = sandbox.addProgram('my-consul', 'exit 1');
    const run = sandbox.run(['scripts/engines.mjs', '--only', 'consul'], { CONTAINEROS_CONSUL_BIN: path });
    expect((await run.ended).output).toBe(`consul\tCONTAINEROS_CONSUL_BIN\t${path}\n`);
  });

  it('refuse a path in the variable that is no program', async () => {
    const run = sandbox.run(['scripts/engines.mjs', '--only', 'consul'], {
      CONTAINEROS_CONSUL_BIN: '/nowhere/consul',
    });
    const { code, output } = await run.ended;
    expect(output).toMatch(/CONTAINEROS_CONSUL_BIN is \/nowhere\/consul, which is not an executable file/);
    expect(code).toBe(1);
  });

  it.each([
    ['1.20.1', 'PATH'],
    ['1.20.9', 'PATH'],
    ['1.20.0', 'release'],
    ['1.21.4', 'release'],
  ])('take Consul %s on the PATH: from %s', async (version, from) => {
    sandbox.addProgram('consul', `echo "Consul v${version}"`);
    const { output } = await install().ended;
    expect(output).toContain(`consul\t${from}\t`);
  });

  it.each([
    ['v2.11.9 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=', 'PATH'],
    ['v2.11.9', 'PATH'],
    ['v2.12.0', 'release'],
    ['2.6.2', 'release'],
    ['v2.11.8', 'release'],
    ['v2.11.10-beta.1', 'release'],
    ['unknown', 'release'],
  ])('take a Caddy on the PATH that says %s: from %s', async (said, from) => {
    const tar = tarGzOf([['caddy', Buffer.from('#!/bin/sh\necho v2.11.9\n')]]);
    site.answer = whole(tar);
    sandbox.addProgram('caddy', `echo "${said}"`);
    const { output } = await installCaddy(sha256(tar)).ended;
    expect(output).toContain(`caddy\t${from}\t`);
  });

  it('take the Caddy that the variable names', async () => {
    const path = sandbox.addProgram('my-caddy', 'exit 1');
    const { output } = await installCaddy(undefined, { CONTAINEROS_CADDY_BIN: path }).ended;
    expect(output).toBe(`caddy\tCONTAINEROS_CADDY_BIN\t${path}\n`);
  });

  it('build from Go modules when the release cannot be had', async () => {
    site.answer = (_request, response) => response.writeHead(503).end();
    sandbox.addProgram('go', goThatBuilds(CONSUL));
    const { code, output } = await install().ended;
    expect(output).toMatch(/^consul\tGo\t/m);
    expect(code).toBe(0);
  });

  it('give a Caddy that is built from Go modules its version', async () => {
    site.answer = (_request, response) => response.writeHead(503).end();
    // Like the real one, it builds a program that knows no version but the one that it is told.
    sandbox.addProgram(
      'go',
      goThatBuilds(
        'echo "$version"',
        'version=$(echo "$*" | /bin/sed -n "s/.*CustomVersion=\\([^ ]*\\).*/\\1/p")',
      ),
    );
    const { code, output } = await installCaddy().ended;
    expect(output).toMatch(/^caddy\tGo\t/m);
    expect(code).toBe(0);
  });

  it('build one engine at a time, and download the modules of the others meanwhile', async () => {
    site.answer = (_request, response) => response.writeHead(503).end();
    sandbox.addProgram(
      'go',
      `PATH=/usr/bin:/bin; cd "${sandbox.folder}" || exit 9
       case "$*" in *caddy*) name=caddy says=v2.11.9 ;; *) name=consul says="Consul v1.20.1" ;; esac
       case "$1" in
         env) echo go1.26.0; exit 0 ;;
         list) touch "modules-of-$name"; exit 0 ;;
         build) ;;
         *) exit 9 ;;
       esac
       mkdir building || { echo "two builds at once" >&2; exit 1; }
       for attempt in $(seq 400); do
         if [ -e modules-of-caddy ] && [ -e modules-of-consul ]; then break; fi
         sleep 0.05
       done
       [ -e modules-of-caddy ] && [ -e modules-of-consul ] || { echo "no modules meanwhile" >&2; exit 1; }
       while [ $# -gt 0 ]; do if [ "$1" = -o ]; then out=$2; fi; shift; done
       printf '#!/bin/sh\necho "%s"\n' "$says" > "$out" && chmod +x "$out"
       rmdir building`,
    );
    const run = sandbox.run(['scripts/engines.mjs', '--only', 'consul', '--only', 'caddy'], {
      CONTAINEROS_DOWNLOAD_BASE: site.base,
    });
    const { code, output } = await run.ended;
    expect(output).toMatch(/^consul\tGo\t.*\ncaddy\tGo\t/m);
    expect(code).toBe(0);
  });

  it('say why a build failed', async () => {
    site.answer = (_request, response) => response.writeHead(503).end();
    sandbox.addProgram(
      'go',
      'case "$1" in env) echo go1.26.0 ;; list) ;; *) echo "link: signal: killed" >&2; exit 1 ;; esac',
    );
    const { code, output } = await install().ended;
    expect(output).toMatch(/Go modules: the build failed:\s+link: signal: killed/);
    expect(code).toBe(1);
  });

  it('tell all that was tried when nothing works', async () => {
    site.answer = (_request, response) => response.writeHead(503).end();
    sandbox.addProgram('consul', 'echo "Consul v1.9.0"');
    sandbox.addProgram(
      'go',
      'if [ "$1" = env ]; then echo go1.26.0; exit 0; fi; echo "proxy: no such host" >&2; exit 1',
    );
    const { code, output } = await install().ended;
    expect(code).toBe(1);
    for (const said of [
      /PATH: .*consul is Consul 1\.9\.0; Consul 1\.20\.1 or a later patch of it is needed/,
      /release: .*the server answered 503/,
      /Go modules: the download of its modules failed:\s+proxy: no such host/,
      /Ways out, any one of them:/,
      /CONTAINEROS_CONSUL_BIN/,
      /CONTAINEROS_DOWNLOAD_BASE/,
      /Install Go 1\.23/,
    ]) {
      expect(output).toMatch(said);
    }
    expect(enginesIn(sandbox)).toEqual([]);
  });

  it('say so when the cache cannot be written', async () => {
    mkdirSync(join(sandbox.folder, 'cache'), { recursive: true });
    writeFileSync(join(sandbox.folder, 'cache', 'engines'), 'a file where a folder must be');
    const { code, output } = await install().ended;
    expect(output).toMatch(/cache .*engines: /);
    expect(code).toBe(1);
  });
});

describe('every pinned engine', () => {
  interface Pinned {
    readonly name: string;
    readonly title: string;
    readonly version: string;
    readonly binVariable: string;
    readonly fits: { readonly version: string };
    readonly checksumList?: string;
    readonly releases: Record<'amd64' | 'arm64', { readonly url: string; readonly sha256?: string }>;
    readonly go: { readonly modFile: readonly string[] };
  }

  async function pinnedEngines(): Promise<readonly Pinned[]> {
    const module = JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'engine-releases.mjs'));
    const script = `import { ENGINES } from ${module}; console.log(JSON.stringify(Object.values(ENGINES)));`;
    const { output } = await sandbox.run(['--input-type=module', '--eval', script]).ended;
    return JSON.parse(output) as Pinned[];
  }

  const read = (...path: string[]): string => readFileSync(join(projectRoot, ...path), 'utf8');

  it('is one version, by whichever way it comes', async () => {
    const engines = await pinnedEngines();
    expect(engines.map(({ name }) => name)).toEqual(['temporal', 'consul', 'caddy']);
    for (const { version, checksumList, releases, go } of engines) {
      for (const architecture of ['amd64', 'arm64'] as const) {
        const { url, sha256: digest } = releases[architecture];
        expect(url).toMatch(new RegExp(`_${version}_linux_${architecture}\\.(zip|tar\\.gz)$`));
        if (checksumList === undefined) expect(digest).toMatch(/^[0-9a-f]{64}$/);
        else expect(checksumList).toMatch(new RegExp(`^https://.*_${version}_checksums\\.txt$`));
      }
      expect(go.modFile.join('\n')).toContain(` v${version}`);
    }
  });

  it('is in the image and in the documentation', async () => {
    const [readme, dockerfile, decision] = [
      read('README.md'),
      read('Dockerfile'),
      read('docs', 'decisions', 'set-up-engines.md'),
    ];
    for (const { name, title, version, binVariable, fits, releases } of await pinnedEngines()) {
      expect(dockerfile).toContain(`${binVariable}=/usr/local/bin/${name}`);
      expect(read('docs', 'packaging.md')).toContain(title);
      for (const text of [readme, decision]) expect(text).toContain(`\`${binVariable}\``);
      expect(readme).toContain(`${fits.version} or a`);
      expect(decision).toMatch(new RegExp(`${title}.* ${version.replaceAll('.', '\\.')} `));
      expect(decision).toContain(`\`${releases.amd64.url.split('/').at(-1)}\``);
    }
  });
});
