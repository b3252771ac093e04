/** A cluster port with an authority, and connections to it with what somebody might hold, for tests. */

import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { once } from 'node:events';

import pino from 'pino';

import { generateClusterKey } from '../../adapters/certificates/seal';
import {
  startClusterPort,
  type ClusterPort,
  type ClusterPortDeps,
} from '../../api/cluster-port/cluster-port';
import { createNodeDocuments } from '../../api/cluster-port/node-documents';
import type { NodeLiveness } from '../../api/cluster-port/node-liveness';
import type { NodeLeases } from '../../api/cluster-port/node-leases';
import { createNodeRoutes } from '../../api/cluster-port/node-routes';
import { createRefusals } from '../../api/cluster-port/refusals';
import { createTaskTokens } from '../../api/cluster-port/task-tokens';
import { createTemporalGateway } from '../../api/cluster-port/temporal-gateway';
import { createNodeStreams, type NodeStreams } from '../../api/node-streams';
import { SERVER_NAME } from '../../contracts/authority';
import type { KeyValueStore } from '../../contracts/key-value-store';
import type { ServiceCatalogue } from '../../contracts/service-catalogue';
import { createTestAuthority, type Certificate, type TestAuthority } from '../support/certificates';
import { createMemoryStore, type MemoryStore } from '../support/memory-store';

export const CLUSTER_ID = 'cluster-1';
/** What nodes are given to open certificates of hostnames with. */
export const CLUSTER_KEY = generateClusterKey();
export const OPEN_PATH = '/v1/join';
export const tokens = createTaskTokens('internal-token');

export interface TestPort {
  readonly authority: TestAuthority;
  readonly store: MemoryStore;
  readonly nodeStreams: NodeStreams;
  readonly port: ClusterPort;
  /** What nodes were refused, in words. */
  readonly refused: readonly string[];
  certificateOf(nodeId: string): Certificate;
  revoke(nodeId: string): void;
  /** Ends the port, at once, and starts another one on the same port. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface TestPortOptions extends Pick<Partial<ClusterPortDeps>, 'limits'> {
  readonly temporalAddress?: string;
  readonly leases?: NodeLeases;
  /** In place of the store in memory, which has no services; refusals are told in the one in memory. */
  readonly consul?: {
    readonly store: KeyValueStore;
    readonly catalogue: ServiceCatalogue;
    readonly liveness: NodeLiveness;
  };
}

const notMadeUp = (what: string) => () => {
  throw new Error(`${what} of the catalogue is not made up here`);
};
const NO_CATALOGUE: ServiceCatalogue = {
  services: notMadeUp('services'),
  checksOfNode: notMadeUp('checksOfNode'),
  checksOfService: notMadeUp('checksOfService'),
  transact: notMadeUp('transact'),
};

/** @returns a port on a free port of loopback, over a store in memory */
export const startTestPort = async (options: TestPortOptions = {}): Promise<TestPort> => {
  const authority = createTestAuthority(CLUSTER_ID);
  const server = authority.issue({
    commonName: 'first',
    organisation: CLUSTER_ID,
    alternativeNames: ['IP:127.0.0.1', 'DNS:localhost', `DNS:${SERVER_NAME}`],
  });
  const log = pino({ level: 'silent' });
  const store = createMemoryStore();
  const nodeStreams = createNodeStreams();
  const refused: string[] = [];
  const revoked = new Set<string>();
  const listeners = new Set<() => void>();
  const certificates = new Map<string, Certificate>();

  const start = async (port: number) => {
    const temporal = createTemporalGateway({
      address: options.temporalAddress ?? '127.0.0.1:1',
      namespace: 'default',
      tokens,
      log,
      onRefused: (nodeId, words) => refused.push(`${nodeId}: ${words}`),
    });
    const started = await startClusterPort({
      host: '127.0.0.1',
      port,
      credentials: server,
      authorityPem: authority.certificatePem,
      clusterId: CLUSTER_ID,
      isRevoked: (nodeId) => revoked.has(nodeId),
      onRevocation: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      open: [OPEN_PATH],
      handleOpen: (request, response) => {
        request.resume();
        response.end('open');
      },
      handleNode: createNodeRoutes({
        nodeStreams,
        documents: createNodeDocuments({
          store: options.consul?.store ?? store,
          catalogue: options.consul?.catalogue ?? NO_CATALOGUE,
          liveness: options.consul?.liveness ?? { heard: () => undefined, isShownAlive: () => false },
          clusterId: CLUSTER_ID,
        }),
        leases: options.leases ?? { ask: () => Promise.reject(new Error('this port has no leases')) },
        identities: {
          renewCertificate: () => Promise.reject(new Error('this port has no authority that signs')),
        },
        refreshIdentities: () => Promise.resolve(),
        takeCoordinate: () => Promise.reject(new Error('no gossip is timed by this port')),
        clusterKey: () => CLUSTER_KEY,
        leave: () => Promise.reject(new Error('no node leaves by this port')),
        refusals: createRefusals(store, log),
        log,
      }),
      temporal,
      log,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
    return { started, temporal };
  };
  let running = await start(0);
  const stop = async () => {
    running.temporal.close();
    await running.started.close(0);
  };

  return {
    authority,
    store,
    nodeStreams,
    refused,
    get port() {
      return running.started;
    },
    certificateOf: (nodeId) => {
      const certificate =
        certificates.get(nodeId) ?? authority.issue({ commonName: nodeId, organisation: CLUSTER_ID });
      certificates.set(nodeId, certificate);
      return certificate;
    },
    revoke: (nodeId) => {
      revoked.add(nodeId);
      for (const listener of listeners) listener();
    },
    restart: async () => {
      const { port } = running.started;
      await stop();
      running = await start(port);
    },
    close: async () => {
      await stop();
      authority.dispose();
    },
  };
};

/** An HTTP/2 connection, with a certificate or without. */
export const dial = async (
  { port, authority }: TestPort,
  holder?: Certificate,
): Promise<ClientHttp2Session> => {
  const session = connect(`https://127.0.0.1:${port.port}`, {
    ca: authority.certificatePem,
    ...(holder === undefined ? {} : { cert: holder.certificatePem, key: holder.keyPem }),
  });
  session.on('error', () => undefined);
  await once(session, 'connect');
  return session;
};

export interface Http2Answer {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** One request, read to its end; headers as HTTP/2 has them. */
export const ask = (
  session: ClientHttp2Session,
  headers: Readonly<Record<string, string>>,
  body?: Buffer | string,
): Promise<Http2Answer> =>
  new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let head: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    stream.on('response', (found: IncomingHttpHeaders) => {
      head = found;
    });
    stream.on('trailers', (found: IncomingHttpHeaders) => {
      trailers = found;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('close', () =>
      head[':status'] === undefined
        ? reject(new Error(`closed with ${stream.rstCode}`))
        : resolve({ headers: head, trailers, body: Buffer.concat(chunks) }),
    );
    if (body !== undefined) stream.end(body);
  });

/** @returns the status of a gRPC call and its words, and the message of the answer */
export const grpc = async (
  session: ClientHttp2Session,
  path: string,
  message: Uint8Array,
  more: { readonly headers?: Readonly<Record<string, string>>; readonly body?: Buffer } = {},
): Promise<{ readonly status: number; readonly words: string; readonly message: Buffer }> => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const { headers, trailers, body } = await ask(
    session,
    { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...more.headers },
    more.body ?? Buffer.concat([head, message]),
  );
  const all = { ...headers, ...trailers };
  return {
    status: Number(all['grpc-status']),
    words: decodeURIComponent(String(all['grpc-message'] ?? '')),
    message: body.subarray(5),
  };
};
