// Small images made here, without any base image: a static busybox and one shell script, whose behaviour is
// chosen by environment variables, so that few images serve many tests.
//
// What the web image understands (all optional):
//   PORT=80                  where it listens
//   START_DELAY_SECONDS=N    listens only after N seconds
//   CRASH_AT_START=TEXT      prints TEXT to its error output and exits with 1
//   CRASH_AFTER_SECONDS=N    serves, then exits with 1
//   EXIT_AT_ONCE=1           exits with 0
//   NEVER_LISTEN=1           runs and never listens
//   HEALTH=missing           /health answers 404 until the file /www/health is made
//   HEALTH=failing           /cgi-bin/health answers 500 until the file /tmp/healthy is made
//   HEALTH_DELAY_SECONDS=N   /cgi-bin/health takes N seconds
//   LOG_SPAM=1               prints lines as fast as it can
//   IGNORE_TERM=1            does not stop when asked
//   STOP_DELAY_SECONDS=N     goes on serving for N seconds after it is asked to stop
// It serves / (the version and the host name), /version, /health, /cgi-bin/health and /cgi-bin/env. A file
// /tmp/failing makes /cgi-bin/health answer 500 until the program starts anew.
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import type Docker from 'dockerode';
import { pack, type Pack } from 'tar-stream';
import { findProgram } from './programs';

export interface Image {
  /** `web`: the repository's name in the registry. */
  readonly repository: string;
  readonly tag: string;
  /** Tar archives, lowest first. */
  readonly layers: readonly Layer[];
  readonly config: ImageConfig;
  /** What it says that it is for; this machine's when left out. */
  readonly architecture?: string;
}

export interface Layer {
  readonly tar: Buffer;
  readonly gzip: Buffer;
}

interface ImageConfig {
  readonly Cmd: readonly string[];
  readonly Env: readonly string[];
  readonly ExposedPorts: Readonly<Record<string, object>>;
}

/** Of the machine, as images name it. */
export const OWN_ARCHITECTURE = process.arch === 'arm64' ? 'arm64' : 'amd64';

const PATH_ENV = 'PATH=/bin';
const APPLETS = [
  'sh',
  'httpd',
  'sleep',
  'env',
  'hostname',
  'cat',
  'echo',
  'touch',
  'rm',
  'nc',
  'wget',
  'kill',
  'ls',
];
const MODE_EXECUTABLE = 0o755;

const START_SCRIPT = `#!/bin/sh
[ -z "$CRASH_AT_START" ] || { echo "$CRASH_AT_START" >&2; exit 1; }
[ -z "$EXIT_AT_ONCE" ] || exit 0
[ "$HEALTH" = missing ] && rm -f /www/health
rm -f /tmp/failing
stop() {
  [ -z "$STOP_DELAY_SECONDS" ] || sleep "$STOP_DELAY_SECONDS"
  exit 0
}
if [ -n "$IGNORE_TERM" ]; then trap '' TERM; else trap stop TERM; fi
# The shell must not be inside a foreground command when it is asked to stop, so everything waits in \`wait\`.
if [ -n "$LOG_SPAM" ]; then while :; do echo "a line of log that says nothing, again and again"; done & fi
[ -z "$START_DELAY_SECONDS" ] || { sleep "$START_DELAY_SECONDS" & wait $!; }
if [ -n "$NEVER_LISTEN" ]; then while :; do sleep 3600 & wait $!; done; fi
echo "$(cat /www/version) $(hostname)" >/www/index.html
httpd -f -p "\${PORT:-80}" -h /www &
server=$!
echo "serving $(cat /www/version) on port \${PORT:-80}"
if [ -n "$CRASH_AFTER_SECONDS" ]; then
  sleep "$CRASH_AFTER_SECONDS" & wait $!
  echo "crashing as told" >&2
  exit 1
fi
while kill -0 $server; do wait $server; done
`;

const HEALTH_SCRIPT = `#!/bin/sh
[ -z "$HEALTH_DELAY_SECONDS" ] || sleep "$HEALTH_DELAY_SECONDS"
if [ "$HEALTH" = failing ] && [ ! -e /tmp/healthy ] || [ -e /tmp/failing ]; then
  printf 'Status: 500 Internal Server Error\\r\\nContent-Type: text/plain\\r\\n\\r\\nfailing\\n'
else
  printf 'Status: 200 OK\\r\\nContent-Type: text/plain\\r\\n\\r\\nok\\n'
fi
`;

const ENV_SCRIPT = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
env
`;

/** A small web server whose answers hold its version. */
export async function webImage(tag = 'v1', options: { readonly repository?: string } = {}): Promise<Image> {
  const repository = options.repository ?? 'web';
  const version = `${repository} ${tag}`;
  return {
    repository,
    tag,
    layers: [await baseLayer(), await versionLayer(version)],
    config: config(['/bin/sh', '/start.sh']),
  };
}

/** The web image with so many bytes more: of chance for slow pulls, zeros when only a disk is to be filled. */
export async function bigImage(
  bytes: number,
  tag = 'v1',
  repository = 'big',
  content: 'random' | 'zeros' = 'random',
): Promise<Image> {
  const web = await webImage(tag, { repository });
  const data = content === 'random' ? randomBytes(bytes) : Buffer.alloc(bytes);
  const ballast = await layer((tar) => tar.entry({ name: 'ballast' }, data), content === 'random' ? 0 : 1);
  return { ...web, layers: [...web.layers, ballast] };
}

/** Its program is for another architecture: the container's start fails with an exec format error. */
export async function wrongArchitectureImage(tag = 'v1'): Promise<Image> {
  // The head of an ELF file for IBM S/390, on which these tests do not run.
  const head = Buffer.alloc(64);
  head.write('\x7fELF\x02\x02\x01', 'latin1');
  head.writeUInt16BE(2, 16);
  head.writeUInt16BE(22, 18);
  const program = await layer((tar) => tar.entry({ name: 'app', mode: MODE_EXECUTABLE }, head));
  return { repository: 'wrong-architecture', tag, layers: [program], config: config(['/app']) };
}

/** Its program is missing: the container cannot be started. */
export async function missingProgramImage(tag = 'v1'): Promise<Image> {
  const nothing = await layer((tar) => tar.entry({ name: 'readme' }, 'no program here'));
  return { repository: 'missing-program', tag, layers: [nothing], config: config(['/no/such/program']) };
}

/** Puts an image into an engine without a registry. Returns the reference to run it by. */
export async function loadInto(engine: { readonly docker: Docker }, image: Image): Promise<string> {
  const reference = `${image.repository}:${image.tag}`;
  const configJson = imageConfigJson(image);
  const archive = pack();
  const names = image.layers.map((each) => `${sha256(each.tar)}.tar`);
  archive.entry({ name: `${sha256(configJson)}.json` }, configJson);
  image.layers.forEach((each, i) => archive.entry({ name: names[i] ?? '' }, each.tar));
  const manifest = [{ Config: `${sha256(configJson)}.json`, RepoTags: [reference], Layers: names }];
  archive.entry({ name: 'manifest.json' }, JSON.stringify(manifest));
  archive.finalize();
  const answer = await engine.docker.loadImage(archive as unknown as NodeJS.ReadableStream);
  const text = (await buffer(answer)).toString();
  if (!text.includes('Loaded image')) throw new Error(`the image was not loaded: ${text}`);
  return reference;
}

/** Pulls as the command line does: an error in the stream of progress is an error too. */
export async function pullImage(docker: Docker, reference: string): Promise<void> {
  const progress = await docker.pull(reference);
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(progress, (error: Error | null, events: readonly { error?: string }[]) => {
      const failure = error?.message ?? events.find((event) => event.error !== undefined)?.error;
      if (failure === undefined) resolve();
      else reject(new Error(failure));
    });
  });
}

export function imageConfigJson(image: Image): string {
  return JSON.stringify({
    architecture: image.architecture ?? OWN_ARCHITECTURE,
    os: 'linux',
    config: image.config,
    rootfs: { type: 'layers', diff_ids: image.layers.map((each) => `sha256:${sha256(each.tar)}`) },
    history: image.layers.map(() => ({ created: '2024-01-01T00:00:00Z', created_by: 'tests' })),
    created: '2024-01-01T00:00:00Z',
  });
}

export function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}

function config(command: readonly string[]): ImageConfig {
  return { Cmd: command, Env: [PATH_ENV], ExposedPorts: { '80/tcp': {} } };
}

async function layer(fill: (tar: Pack) => void, gzipLevel = 1): Promise<Layer> {
  const archive = pack();
  fill(archive);
  archive.finalize();
  const tar = await buffer(archive);
  return { tar, gzip: gzipSync(tar, { level: gzipLevel }) };
}

/** Everything but the version, so that all web images share it. */
let base: Promise<Layer> | undefined;
const baseLayer = (): Promise<Layer> => (base ??= makeBaseLayer());

async function makeBaseLayer(): Promise<Layer> {
  const busybox = readFileSync(findBusybox());
  return layer((tar) => {
    for (const name of ['bin/', 'tmp/', 'www/', 'www/cgi-bin/']) {
      tar.entry({ name, type: 'directory', mode: name === 'tmp/' ? 0o1777 : MODE_EXECUTABLE });
    }
    tar.entry({ name: 'bin/busybox', mode: MODE_EXECUTABLE }, busybox);
    for (const applet of APPLETS) tar.entry({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox' });
    tar.entry({ name: 'start.sh', mode: MODE_EXECUTABLE }, START_SCRIPT);
    tar.entry({ name: 'www/health' }, 'ok\n');
    tar.entry({ name: 'www/cgi-bin/health', mode: MODE_EXECUTABLE }, HEALTH_SCRIPT);
    tar.entry({ name: 'www/cgi-bin/env', mode: MODE_EXECUTABLE }, ENV_SCRIPT);
  });
}

function versionLayer(version: string): Promise<Layer> {
  return layer((tar) => {
    tar.entry({ name: 'www/version' }, `${version}\n`);
    tar.entry({ name: 'www/index.html', mode: 0o666 }, `${version}\n`);
  });
}

/** Debian's busybox-static: an image has no libraries for a busybox that needs some. */
const findBusybox = (): string => findProgram('busybox', (path) => !needsLibraries(path));

/** Whether an ELF file names an interpreter, which is the dynamic linker. */
function needsLibraries(path: string): boolean {
  const head = readFileSync(path).subarray(0, 4096);
  return head.includes('/ld-linux') || head.includes('/ld-musl');
}
