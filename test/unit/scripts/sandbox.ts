// A folder with a home, a cache and a PATH of its own, in which set-up scripts run as child processes; and a server
// that stands for the sites where engines are published.
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { deflateRawSync, gzipSync } from 'node:zlib';

// Every test starts processes, which takes its time on a busy machine.
jest.setTimeout(60_000);

export const projectRoot = resolve(__dirname, '..', '..', '..');

export interface Sandbox {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** Writes an executable shell script on the sandbox's PATH, which holds nothing else. */
  addProgram(name: string, body: string): string;
  run(args: readonly string[], env?: NodeJS.ProcessEnv): Run;
  dispose(): void;
}

export interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{
    readonly code: number | null;
    readonly signal: string | null;
    readonly output: string;
  }>;
  output(): string;
}

export function makeSandbox(options: { readonly cachePath?: string } = {}): Sandbox {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-set-up-'));
  const programs = join(folder, 'bin');
  mkdirSync(programs);
  const env: NodeJS.ProcessEnv = {
    PATH: programs,
    HOME: folder,
    CONTAINEROS_CACHE_DIR: options.cachePath ?? join(folder, 'cache'),
  };
  return {
    folder,
    env,
    addProgram: (name, body) => {
      const path = join(programs, name);
      writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
      return path;
    },
    run: (args, more = {}) => start(args, { ...env, ...more }),
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function start(args: readonly string[], env: NodeJS.ProcessEnv): Run {
  const child = spawn(process.execPath, args, { cwd: projectRoot, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as string | null,
    output,
  }));
  return { child, ended, output: () => output };
}

export async function until(isTrue: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!isTrue()) {
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** The names in a folder of the cache, without the locks. */
export function enginesIn(sandbox: Sandbox): string[] {
  try {
    return readdirSync(join(String(sandbox.env['CONTAINEROS_CACHE_DIR']), 'engines'))
      .filter((name) => name !== '.locks')
      .sort();
  } catch {
    return [];
  }
}

// ---- the publishers' site ----

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface ReleaseSite {
  readonly base: string;
  readonly requests: string[];
  answer: Answer;
  close(): Promise<void>;
}

export async function startReleaseSite(answer: Answer): Promise<ReleaseSite> {
  const server = createServer((request, response) => {
    site.requests.push(request.url ?? '');
    site.answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the site has no port');
  const site = {
    base: `http://127.0.0.1:${address.port}`,
    requests: [] as string[],
    answer,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return site;
}

export const whole =
  (archive: Buffer): Answer =>
  (_request, response) => {
    response.end(archive);
  };

/** Sends the first half, then cuts the connection. */
export const cutOff =
  (archive: Buffer): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-length': archive.length });
    response.write(archive.subarray(0, archive.length / 2), () => setTimeout(() => response.destroy(), 50));
  };

/** Sends the first half, then nothing, with the connection open. */
export const stalled =
  (archive: Buffer): Answer =>
  (_request, response) => {
    response.writeHead(200, { 'content-length': archive.length });
    response.write(archive.subarray(0, archive.length / 2));
  };

export const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex');
export const sha512 = (content: Buffer): string => createHash('sha512').update(content).digest('hex');

/** Writes a file that replaces the pinned release of an engine by this archive, for both architectures. */
export function pinRelease(
  sandbox: Sandbox,
  engine: 'caddy' | 'consul' | 'temporal',
  digest: string | undefined,
  needsBytes = 1_000,
): string {
  const fileName = engine === 'consul' ? 'consul.zip' : `${engine}.tar.gz`;
  const release = { url: `https://releases.invalid/${fileName}`, sha256: digest };
  const path = join(sandbox.folder, 'releases.json');
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(
    path,
    JSON.stringify({
      [engine]: {
        releases: { amd64: release, arm64: release },
        needsBytes,
        ...(digest === undefined ? { checksumList: 'https://releases.invalid/checksums.txt' } : {}),
      },
    }),
  );
  return path;
}

export function zipOf(name: string, content: Buffer, comment = ''): Buffer {
  const packed = deflateRawSync(content);
  const local = Buffer.alloc(30);
  local.writeUInt32LE(0x04034b50, 0);
  local.writeUInt16LE(8, 8);
  local.writeUInt16LE(Buffer.byteLength(name), 26);
  const localPart = Buffer.concat([local, Buffer.from(name), packed]);
  const entry = Buffer.alloc(46);
  entry.writeUInt32LE(0x02014b50, 0);
  entry.writeUInt16LE(8, 10);
  entry.writeUInt32LE(packed.length, 20);
  entry.writeUInt32LE(content.length, 24);
  entry.writeUInt16LE(Buffer.byteLength(name), 28);
  const directory = Buffer.concat([entry, Buffer.from(name)]);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(localPart.length, 16);
  end.writeUInt16LE(Buffer.byteLength(comment), 20);
  return Buffer.concat([localPart, directory, end, Buffer.from(comment)]);
}

export function tarGzOf(files: readonly (readonly [name: string, content: Buffer])[]): Buffer {
  const blocks = files.flatMap(([name, content]) => {
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write(content.length.toString(8).padStart(11, '0'), 124);
    header.write('0', 156);
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}
