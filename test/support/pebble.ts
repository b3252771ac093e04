/**
 * A real ACME server (Pebble) with a DNS of its own (pebble-challtestsrv), and a gate before it where answers can be
 * replaced: what Pebble cannot do (limits, renewal information) is answered there.
 *
 * Invariants: everything is on one address, 127.0.0.1 if a test says no other; every hostname leads there unless a test
 * says otherwise; certificates
 * of servers are from an authority that only `caPem` trusts.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createServer as createTlsServer } from 'node:https';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createTestAuthority } from './certificates';
import { revocationOf } from './jws';
import { findProgram } from './programs';
import { eventually } from './wait';

const LOOPBACK = '127.0.0.1';
const DAY_MS = 86_400_000;

export interface GateRequest {
  readonly method: string;
  readonly path: string;
  /** What was signed, decoded; undefined when nothing was. */
  readonly payload: unknown;
}

export interface GateAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
}

export type GateAnswerer = (request: GateRequest) => GateAnswer | undefined | Promise<GateAnswer | undefined>;

export interface RenewalWindow {
  readonly start: Date;
  readonly end: Date;
}

export interface PebbleOptions {
  /** By key id. */
  readonly eabKeys?: Readonly<Record<string, string>>;
  /** Of a hundred nonces, so many are refused. */
  readonly badNoncePercent?: number;
  readonly validitySeconds?: number;
  /** Where it listens. */
  readonly host?: string;
  /** Where HTTP challenges are looked for; left out: at a free port. */
  readonly httpPort?: number;
  /** Address and port of a DNS server that it asks in the place of its own. */
  readonly resolver?: string;
}

export interface Pebble {
  readonly directory: string;
  /** Root of the certificates of the server itself. */
  readonly caPem: string;
  /** The root of the certificates that it issues. */
  rootPem(): Promise<string>;
  /** Where HTTP challenges are looked for, whatever the hostname. */
  readonly httpPort: number;
  /** Address and port of the DNS server that it asks. */
  readonly resolver: string;
  /** What was asked, `METHOD /path`, since the test took it last. */
  takeRequests(): readonly string[];
  /** Replaces answers, or holds them up; undefined: Pebble answers. */
  answer(by: GateAnswerer | undefined): void;
  /** Adds `renewalInfo` to the directory: the same for every certificate, or by whether it is revoked. */
  suggestRenewal(window: RenewalWindow | 'by revocation' | undefined): void;
  /** As whoever has a certificate's key may do it. */
  revoke(certificatePem: string, keyPem: string): Promise<void>;
  /** Sets something in its DNS: `add-a`, `set-txt`, … */
  dns(command: string, body: object): Promise<void>;
  /** Ends and starts it: it forgets everything. */
  restart(): Promise<void>;
  /** Nobody listens any more, until it is restarted. */
  stop(): Promise<void>;
  close(): Promise<void>;
}

const freePort = async (host: string): Promise<number> => {
  const server = createTcpServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
};

const bodyOf = async (message: IncomingMessage): Promise<string> => {
  let text = '';
  for await (const part of message) text += String(part);
  return text;
};

const payloadOf = (body: string): unknown => {
  if (body === '') return undefined;
  const { payload } = JSON.parse(body) as { readonly payload: string };
  return payload === '' ? undefined : JSON.parse(Buffer.from(payload, 'base64url').toString());
};

const ended = async (child: ChildProcess | undefined) => {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
};

export const startPebble = async (options: PebbleOptions = {}): Promise<Pebble> => {
  const { host = LOOPBACK } = options;
  const folder = mkdtempSync(join(tmpdir(), 'containeros-pebble-'));
  const authority = createTestAuthority('pebble');
  const own = authority.issue({
    commonName: host,
    organisation: 'pebble',
    alternativeNames: [`IP:${host}`, 'DNS:localhost'],
  });
  const [listenPort, managementPort, freeHttpPort, tlsPort, dnsPort, dnsManagementPort] = await Promise.all(
    Array.from({ length: 6 }, () => freePort(host)),
  );
  const httpPort = options.httpPort ?? freeHttpPort ?? 0;
  const path = (name: string) => join(folder, name);
  writeFileSync(path('cert.pem'), own.certificatePem);
  writeFileSync(path('key.pem'), own.keyPem);
  writeFileSync(
    path('config.json'),
    JSON.stringify({
      pebble: {
        listenAddress: `${host}:${listenPort}`,
        managementListenAddress: `${host}:${managementPort}`,
        certificate: path('cert.pem'),
        privateKey: path('key.pem'),
        httpPort,
        tlsPort,
        ocspResponderURL: '',
        externalAccountBindingRequired: options.eabKeys !== undefined,
        externalAccountMACKeys: options.eabKeys ?? {},
        domainBlocklist: ['blocked.example.com'],
        certificateValidityPeriod: options.validitySeconds ?? 90 * 86_400,
      },
    }),
  );
  const dns = spawn(
    findProgram('pebble-challtestsrv'),
    [
      ...['-management', `${host}:${dnsManagementPort}`, '-dns01', `${host}:${dnsPort}`],
      ...['-http01', '', '-https01', '', '-tlsalpn01', '', '-defaultIPv4', host, '-defaultIPv6', ''],
    ],
    { stdio: 'ignore' },
  );

  const resolver = options.resolver ?? `${host}:${dnsPort}`;
  const startServer = () =>
    spawn(findProgram('pebble'), ['-config', path('config.json'), '-dnsserver', resolver], {
      stdio: 'ignore',
      env: {
        PATH: process.env['PATH'] ?? '',
        PEBBLE_VA_NOSLEEP: '1',
        PEBBLE_WFE_NONCEREJECT: String(options.badNoncePercent ?? 0),
        PEBBLE_AUTHZREUSE: '0',
      },
    });
  let server: ChildProcess | undefined = startServer();

  let replaced: GateAnswerer | undefined;
  let window: RenewalWindow | 'by revocation' | undefined;
  let requests: string[] = [];

  const forward = (
    asked: {
      /** Left out: that of the ACME server. */
      readonly port?: number;
      readonly method: string;
      readonly path: string;
      readonly host: string;
      readonly type: string | undefined;
    },
    body: string,
  ): Promise<{
    readonly status: number;
    readonly headers: IncomingMessage['headers'];
    readonly text: string;
  }> =>
    new Promise((resolve, reject) => {
      const sent = request(
        {
          host,
          port: asked.port ?? listenPort,
          method: asked.method,
          path: asked.path,
          headers: { host: asked.host, ...(asked.type === undefined ? {} : { 'content-type': asked.type }) },
          ca: authority.certificatePem,
          agent: false,
        },
        (answer) => {
          bodyOf(answer).then(
            (text) => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }),
            reject,
          );
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });

  const windowOf = async (renewalId: string): Promise<RenewalWindow> => {
    if (window !== undefined && window !== 'by revocation') return window;
    const serial = Buffer.from(renewalId.split('.')[1] ?? '', 'base64url').toString('hex');
    const path = `/cert-status-by-serial/${serial.replace(/^00/, '')}`;
    const at = { port: managementPort ?? 0, method: 'GET', path, host, type: undefined };
    const { Status: status } = JSON.parse((await forward(at, '')).text) as { readonly Status: string };
    const startMs = Date.now() + (status === 'Revoked' ? -2 : 30) * DAY_MS;
    return { start: new Date(startMs), end: new Date(startMs + DAY_MS) };
  };

  const gate = createTlsServer({ cert: own.certificatePem, key: own.keyPem }, (asked, answer) => {
    const handle = async () => {
      const body = await bodyOf(asked);
      const { method = 'GET', url: where = '/' } = asked;
      requests.push(`${method} ${where}`);
      const instead = await replaced?.({ method, path: where, payload: payloadOf(body) });
      if (instead !== undefined) {
        answer.writeHead(instead.status, {
          'content-type': instead.status >= 400 ? 'application/problem+json' : 'application/json',
          'replay-nonce': 'none',
          ...instead.headers,
        });
        answer.end(JSON.stringify(instead.body));
        return;
      }
      if (window !== undefined && where.startsWith('/renewal/')) {
        const suggestedWindow = await windowOf(where.slice('/renewal/'.length));
        answer.writeHead(200, { 'content-type': 'application/json', 'retry-after': '21600' });
        answer.end(JSON.stringify({ suggestedWindow }));
        return;
      }
      const { host: named = '' } = asked.headers;
      const type = asked.headers['content-type'];
      const { status, headers, text } = await forward({ method, path: where, host: named, type }, body);
      const isDirectory = window !== undefined && where === '/dir';
      const shown = isDirectory
        ? JSON.stringify({ ...(JSON.parse(text) as object), renewalInfo: `https://${named}/renewal` })
        : text;
      const { 'content-length': _length, 'transfer-encoding': _encoding, ...kept } = headers;
      answer.writeHead(status, kept);
      answer.end(shown);
    };
    handle().catch(() => answer.destroy());
  });
  gate.listen(0, host);
  await once(gate, 'listening');
  const { port } = gate.address() as AddressInfo;
  const directory = `https://${host}:${port}/dir`;

  const command = async (name: string, body: object) => {
    const answer = await fetch(`http://${host}:${dnsManagementPort}/${name}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${name} answered ${answer.status}: ${await answer.text()}`);
  };

  const isUp = () =>
    eventually(async () => {
      const { status } = await forward({ method: 'GET', path: '/dir', host, type: undefined }, '');
      expect(status).toBe(200);
    });
  await isUp();
  await eventually(() => command('set-default-ipv4', { ip: host }));

  return {
    directory,
    caPem: authority.certificatePem,
    httpPort,
    rootPem: async () => {
      const at = { port: managementPort ?? 0, method: 'GET', path: '/roots/0', host, type: undefined };
      return (await forward(at, '')).text;
    },
    resolver,
    takeRequests: () => {
      const taken = requests;
      requests = [];
      return taken;
    },
    answer: (by) => {
      replaced = by;
    },
    suggestRenewal: (suggested) => {
      window = suggested;
    },
    revoke: async (certificatePem, keyPem) => {
      const at = { method: 'HEAD', path: '/nonce-plz', host: `${host}:${listenPort}`, type: undefined };
      const nonce = String((await forward(at, '')).headers['replay-nonce']);
      const url = `https://${host}:${listenPort}/revoke-cert`;
      const type = 'application/jose+json';
      const { status, text } = await forward(
        { ...at, method: 'POST', path: '/revoke-cert', type },
        revocationOf({ certificatePem, keyPem, nonce, url }),
      );
      if (status !== 200) throw new Error(`it was not revoked: ${status} ${text}`);
    },
    dns: command,
    restart: async () => {
      await ended(server);
      server = startServer();
      await isUp();
    },
    stop: async () => {
      await ended(server);
      server = undefined;
    },
    close: async () => {
      gate.close();
      gate.closeAllConnections();
      await ended(server);
      await ended(dns);
      authority.dispose();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

export interface ChallengeServer {
  /** Hosts and tokens that were asked for. */
  readonly asked: readonly string[];
  close(): Promise<void>;
}

/** Answers challenges on a port, as an ingress does. @param find the key authorization of a token */
export const startChallengeServer = async (
  port: number,
  find: (token: string) => string | undefined,
): Promise<ChallengeServer> => {
  const asked: string[] = [];
  const server = createServer((question, answer) => {
    const token = /^\/\.well-known\/acme-challenge\/([\w-]+)$/.exec(question.url ?? '')?.[1] ?? '';
    asked.push(`${question.headers.host} ${token}`);
    const found = find(token);
    answer.writeHead(found === undefined ? 404 : 200, { 'content-type': 'text/plain' });
    answer.end(found ?? 'no such challenge');
  });
  server.listen(port, LOOPBACK);
  await once(server, 'listening');
  return {
    asked,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
};
