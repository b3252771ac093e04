// A real image registry (Debian's docker-registry) on the test world's switch, and in front of it a proxy in the
// test process, which counts requests and can slow, hold or fail them at will.
// Invariants: engines see the proxy's address only; pushes go past it, so that counts and faults are of pulls.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { findProgram } from './programs';
import { imageConfigJson, sha256, type Image } from './images';
import { eventually } from './wait';
import { useWorld } from './world';

export type RegistryFault =
  /** Every answer comes so much later. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** Layers come at this speed, each. */
  | { readonly kind: 'throttle'; readonly bytesPerSecond: number }
  /** Requests for layers get no answer until the fault is taken away. */
  | { readonly kind: 'hold' }
  /** Every request is answered with this status. */
  | { readonly kind: 'status'; readonly status: number }
  /** Every connection is cut. */
  | { readonly kind: 'reset' };

export interface Registry {
  /** `address:port`, the first part of the images' references. */
  readonly host: string;
  /** Pushes an image and returns its reference. */
  push(image: Image): Promise<string>;
  /** Pushes a list of manifests, with one manifest for each of these architectures: the same image under all of them. */
  pushFor(image: Image, architectures: readonly string[]): Promise<string>;
  /** Only for pulls whose path matches, if a pattern is given. */
  setFault(fault: RegistryFault | undefined, pathPattern?: RegExp): void;
  /** How many requests of pulls there were, by method and path. */
  requestCount(pattern: RegExp): number;
  /** Every request of pulls, as `GET /v2/web/manifests/v1`, in order. */
  readonly requests: readonly string[];
  resetRequests(): void;
  /** Refuses connections, as a registry that is down. */
  stop(): Promise<void>;
  start(): Promise<void>;
  dispose(): Promise<void>;
}

const MANIFEST_TYPE = 'application/vnd.docker.distribution.manifest.v2+json';
const LIST_TYPE = 'application/vnd.docker.distribution.manifest.list.v2+json';
const FIRST_PORT = 5000;
const THROTTLE_STEPS_PER_SECOND = 20;

export async function startRegistry(): Promise<Registry> {
  const world = await useWorld();
  const number = world.nextNumber();
  const folder = join(world.folder, `registry-${number}`);
  const backend = { host: world.switchAddress, port: FIRST_PORT + number };
  mkdirSync(folder);
  const configPath = join(folder, 'config.json'); // JSON is YAML too
  writeFileSync(configPath, JSON.stringify(registryConfig(folder, backend)));

  const agent = new Agent({ keepAlive: true });
  const requests: string[] = [];
  let fault: { readonly fault: RegistryFault; readonly pattern: RegExp } | undefined;
  let faultChanged = new AbortController();
  let daemon: ChildProcess | undefined;
  let port = 0;

  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const path = incoming.url ?? '/';
    requests.push(`${incoming.method} ${path}`);
    const active = (): RegistryFault | undefined =>
      fault !== undefined && fault.pattern.test(path) ? fault.fault : undefined;
    while (active()?.kind === 'hold' && isLayer(path)) {
      await delay(60_000, undefined, { signal: faultChanged.signal }).catch(() => undefined);
      if (outgoing.destroyed) return;
    }
    const now = active();
    if (now?.kind === 'reset') {
      incoming.socket.destroy();
      return;
    }
    if (now?.kind === 'status') {
      outgoing.writeHead(now.status).end();
      return;
    }
    if (now?.kind === 'delay') await delay(now.delayMs);
    const forwarded = request({
      ...backend,
      agent,
      method: incoming.method,
      path,
      headers: incoming.headers,
    });
    forwarded.end();
    const [response] = (await once(forwarded, 'response')) as [IncomingMessage];
    outgoing.writeHead(response.statusCode ?? 502, response.headers);
    if (now?.kind === 'throttle' && isLayer(path)) {
      await pipeline(response, throttle(now.bytesPerSecond), outgoing);
    } else {
      await pipeline(response, outgoing);
    }
  };

  const proxy = createServer((incoming, outgoing) => {
    answer(incoming, outgoing).catch(() => outgoing.destroy()); // the puller or the registry went away
  });

  const start = async (): Promise<void> => {
    if (daemon !== undefined) return;
    const command = [findProgram('docker-registry'), 'serve', configPath];
    daemon = spawn('nsenter', [`--net=/run/netns/${world.switchNamespace}`, ...command], {
      cwd: '/',
      detached: true,
      stdio: 'ignore',
    });
    daemon.unref();
    await eventually(
      async () => {
        const response = await fetch(`http://${backend.host}:${backend.port}/v2/`);
        if (!response.ok) throw new Error(String(response.status));
      },
      { intervalMs: 20, describe: 'docker-registry answers' },
    );
    proxy.listen(port, world.ownerAddress);
    await once(proxy, 'listening');
    port = (proxy.address() as AddressInfo).port;
  };

  const stop = async (): Promise<void> => {
    const child = daemon;
    if (child === undefined) return;
    daemon = undefined;
    const closed = once(proxy, 'close');
    proxy.close();
    proxy.closeAllConnections();
    await closed;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  };

  const changeFault = (next: typeof fault): void => {
    fault = next;
    faultChanged.abort();
    faultChanged = new AbortController();
  };

  await start();
  const host = `${world.ownerAddress}:${port}`;
  return {
    host,
    requests,
    push: async (image) => {
      await pushTo(`http://${backend.host}:${backend.port}/v2/${image.repository}`, image);
      return `${host}/${image.repository}:${image.tag}`;
    },
    pushFor: async (image, architectures) => {
      await pushListTo(`http://${backend.host}:${backend.port}/v2/${image.repository}`, image, architectures);
      return `${host}/${image.repository}:${image.tag}`;
    },
    setFault: (next, pattern = /./) => changeFault(next === undefined ? undefined : { fault: next, pattern }),
    requestCount: (pattern) => requests.filter((each) => pattern.test(each)).length,
    resetRequests: () => requests.splice(0),
    start,
    stop,
    dispose: async () => {
      changeFault(undefined);
      await stop();
      agent.destroy();
      await world.release();
    },
  };
}

function registryConfig(folder: string, backend: { host: string; port: number }): object {
  return {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(folder, 'data') }, delete: { enabled: true } },
    http: { addr: `${backend.host}:${backend.port}` },
  };
}

const isLayer = (path: string): boolean => path.includes('/blobs/');

function throttle(bytesPerSecond: number): (source: AsyncIterable<Buffer>) => AsyncGenerator<Buffer> {
  const step = Math.max(1, Math.floor(bytesPerSecond / THROTTLE_STEPS_PER_SECOND));
  return async function* (source) {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += step) {
        yield chunk.subarray(at, at + step);
        await delay(1000 / THROTTLE_STEPS_PER_SECOND);
      }
    }
  };
}

async function pushListTo(url: string, image: Image, architectures: readonly string[]): Promise<void> {
  const manifests: object[] = [];
  for (const architecture of architectures) {
    const manifest = await pushTo(url, { ...image, architecture, tag: `${image.tag}-${architecture}` });
    manifests.push({
      mediaType: MANIFEST_TYPE,
      size: manifest.length,
      digest: digestOf(manifest),
      platform: { architecture, os: 'linux' },
    });
  }
  const list = { schemaVersion: 2, mediaType: LIST_TYPE, manifests };
  await send('PUT', `${url}/manifests/${image.tag}`, LIST_TYPE, JSON.stringify(list));
}

/** Docker Registry HTTP API v2: blobs first, then the manifest that names them, which is returned. */
async function pushTo(url: string, image: Image): Promise<Buffer> {
  const configJson = Buffer.from(imageConfigJson(image));
  for (const blob of [configJson, ...image.layers.map((each) => each.gzip)]) await pushBlob(url, blob);
  const manifest = {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: {
      mediaType: 'application/vnd.docker.container.image.v1+json',
      size: configJson.length,
      digest: digestOf(configJson),
    },
    layers: image.layers.map(({ gzip }) => ({
      mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
      size: gzip.length,
      digest: digestOf(gzip),
    })),
  };
  const body = Buffer.from(JSON.stringify(manifest));
  await send('PUT', `${url}/manifests/${image.tag}`, MANIFEST_TYPE, body);
  return body;
}

async function pushBlob(url: string, blob: Buffer): Promise<void> {
  const digest = digestOf(blob);
  if ((await fetch(`${url}/blobs/${digest}`, { method: 'HEAD' })).ok) return;
  const upload = await send('POST', `${url}/blobs/uploads/`, undefined, undefined);
  const location = new URL(upload.headers.get('location') ?? '', url);
  location.searchParams.set('digest', digest);
  await send('PUT', location.href, 'application/octet-stream', blob);
}

async function send(
  method: string,
  url: string,
  contentType: string | undefined,
  body: string | Buffer | undefined,
): Promise<Response> {
  const response = await fetch(url, {
    method,
    headers: contentType === undefined ? {} : { 'content-type': contentType },
    ...(body === undefined ? {} : { body }),
  });
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  return response;
}

const digestOf = (blob: Buffer): string => `sha256:${sha256(blob)}`;
