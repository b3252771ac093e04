/**
 * The one port that nodes dial: TLS 1.3, HTTP/2 and HTTP/1.1, every request under the identity of a client
 * certificate.
 *
 * Invariants: nothing but the open paths is looked at before the certificate counts; it is asked again for every
 * request, and a connection ends when its certificate is revoked. No session is resumed, so that every connection has
 * shown its certificate. What a stranger can use up is bounded, and so is what a node can.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  Http2ServerRequest,
  Http2ServerResponse,
  constants,
  createSecureServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { constants as cryptoConstants } from 'node:crypto';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import type { Logger } from 'pino';

import { ContainerOsError } from '../../domain/errors';
import { hostPort } from '../../domain/host-port';

import { answerProblem, bodyStreamOf } from './answers';
import { createConnections, type Connection, type ConnectionLimits } from './connections';
import { assertPeer, type PeerIdentity, type PeerRules } from './peer-identity';
import { GRPC } from './temporal-calls';
import { answerGrpcError, type TemporalGateway } from './temporal-gateway';

export type PortRequest = IncomingMessage | Http2ServerRequest;
export type PortResponse = ServerResponse | Http2ServerResponse;

export interface ClusterPortLimits extends ConnectionLimits {
  readonly handshakeMs: number;
  /** For a whole request to an open path. */
  readonly openRequestMs: number;
}

/** PEM texts of a server: its certificate (and those between it and the authority), and the key. */
export interface ServerCredentials {
  readonly certificatePem: string;
  readonly keyPem: string;
}

export interface ClusterPortDeps extends Omit<PeerRules, 'nowMs'> {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly credentials: ServerCredentials;
  /** PEM text of the authority's certificate: what it has signed is let in, nothing else. */
  readonly authorityPem: string;
  /**
   * Tells when `isRevoked` has something new to say.
   *
   * @returns how to end it
   */
  onRevocation(listener: () => void): () => void;
  /** Paths that need no certificate, exactly as asked for, without the query. */
  readonly open: readonly string[];
  handleOpen(request: PortRequest, response: PortResponse): void | Promise<void>;
  /** Everything that is neither open nor gRPC. */
  handleNode(identity: PeerIdentity, request: PortRequest, response: PortResponse): void | Promise<void>;
  readonly temporal: TemporalGateway;
  readonly log: Logger;
  readonly nowMs?: () => number;
  readonly limits?: Partial<ClusterPortLimits>;
}

export interface ClusterPort {
  readonly port: number;
  /** Like 127.0.0.1:7443. */
  readonly address: string;
  /** For connections that are made from now on. */
  renew(credentials: ServerCredentials): void;
  /** Stops taking connections, and cuts those that are still busy after `graceMs`. */
  close(graceMs?: number): Promise<void>;
}

const LIMITS: ClusterPortLimits = {
  connections: 2_048,
  connectionsPerNode: 128,
  strangersPerAddress: 64,
  requestsPerNode: 1_024,
  idleMs: 120_000,
  strangerIdleMs: 10_000,
  handshakeMs: 10_000,
  openRequestMs: 30_000,
};
/** A node has as many calls under way as it has activities that end at once; further ones wait at the node. */
const MAX_STREAMS_PER_CONNECTION = 256;
const MAX_HEADER_BYTES = 16_384;
const MAX_HEADER_PAIRS = 64;
const STREAM_WINDOW_BYTES = 262_144;
/** What the protocol's own machinery may hold for one connection, in megabytes. */
const SESSION_MEMORY_MB = 32;
const CLOSE_GRACE_MS = 5_000;

const EXPLANATIONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use; stop what uses it, or choose another with --cluster-port',
  EACCES: 'ports below 1024 need more rights; choose a higher one with --cluster-port',
};

const listen = (server: Http2SecureServer, host: string, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = EXPLANATIONS[error.code ?? ''] ?? error.message;
      const words = `The cluster port cannot listen on ${host}:${port}: ${why}.`;
      reject(new ContainerOsError('unavailable', words, [], { cause: error }));
    });
    server.listen(port, host, resolve);
  });

const pathOf = (url: string | undefined): string => (url ?? '').split('?')[0] ?? '';

/** @throws {ContainerOsError} `unavailable` when the port cannot be had */
export const startClusterPort = async (deps: ClusterPortDeps): Promise<ClusterPort> => {
  const { log } = deps;
  const limits = { ...LIMITS, ...deps.limits };
  const rules: PeerRules = {
    clusterId: deps.clusterId,
    isRevoked: deps.isRevoked,
    nowMs: deps.nowMs ?? Date.now,
  };
  const connections = createConnections(rules, limits);
  const open = new Set(deps.open);

  const context = ({ certificatePem, keyPem }: ServerCredentials) => ({
    cert: certificatePem,
    key: keyPem,
    ca: deps.authorityPem,
    minVersion: 'TLSv1.3' as const,
    secureOptions: cryptoConstants.SSL_OP_NO_TICKET,
  });
  const server = createSecureServer({
    ...context(deps.credentials),
    allowHTTP1: true,
    requestCert: true,
    // Joining needs no certificate: it is each request that is let in or not.
    rejectUnauthorized: false,
    handshakeTimeout: limits.handshakeMs,
    maxHeaderListPairs: MAX_HEADER_PAIRS,
    maxSessionMemory: SESSION_MEMORY_MB,
    settings: {
      maxConcurrentStreams: MAX_STREAMS_PER_CONNECTION,
      maxHeaderListSize: MAX_HEADER_BYTES,
      initialWindowSize: STREAM_WINDOW_BYTES,
    },
  });

  // Node's own limit of five minutes would cut streams of nodes: followed logs, and commands. Bodies that have an end
  // are read within limits of their own.
  (server as Http2SecureServer & { requestTimeout: number }).requestTimeout = 0;

  const dispatch = async (
    connection: Connection,
    request: PortRequest,
    response: PortResponse,
  ): Promise<void> => {
    try {
      if (!open.has(pathOf(request.url))) {
        await deps.handleNode(assertPeer(connection.peer, rules), request, response);
        return;
      }
      const timer = setTimeout(() => bodyStreamOf(request).destroy(), limits.openRequestMs);
      response.once('close', () => clearTimeout(timer));
      await deps.handleOpen(request, response);
    } catch (error) {
      answerProblem(response, error, log);
    }
  };

  const onStream = (
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    _flags: number,
    raw: string[],
  ) => {
    stream.on('error', (error) => log.debug({ err: error }, 'a stream of the cluster port broke off'));
    const { session } = stream;
    const connection = session === undefined ? undefined : connections.of(session.socket);
    if (connection?.begin() !== true) return stream.close(constants.NGHTTP2_REFUSED_STREAM);
    stream.once('close', () => connection.end());
    const isGrpc = headers['content-type']?.startsWith('application/grpc') === true;
    if (!isGrpc || open.has(pathOf(headers[':path']))) {
      const request = new Http2ServerRequest(stream, headers, {}, raw);
      void dispatch(connection, request, new Http2ServerResponse(stream));
      return undefined;
    }
    try {
      deps.temporal.handle(stream, headers, assertPeer(connection.peer, rules).nodeId);
    } catch (error) {
      answerGrpcError(stream, GRPC.unauthenticated, error instanceof Error ? error.message : String(error));
    }
    return undefined;
  };

  server.on('request', (request, response) => {
    const connection = connections.of(request.socket);
    if (connection?.begin() !== true) return request.socket.destroy();
    response.once('close', () => connection.end());
    request.on('error', (error) => log.debug({ err: error }, 'a request to the cluster port broke off'));
    return void dispatch(connection, request, response);
  });
  // What Node adds for HTTP/2 beside a listener of requests would take the streams of gRPC too.
  server.removeAllListeners('stream');
  server.on('stream', onStream);
  server.on('connection', (socket: Socket) => connections.arrived(socket));
  // Before the listener that makes a session of it.
  server.prependListener('secureConnection', (socket: TLSSocket) => connections.secured(socket));
  server.on('session', (session) => connections.session(session));
  for (const event of ['sessionError', 'tlsClientError']) {
    server.on(event, (error: unknown) =>
      log.debug({ err: error }, 'a connection to the cluster port broke off'),
    );
  }

  await listen(server, deps.host, deps.port);
  const endRevocations = deps.onRevocation(() => connections.recheck());
  const { port } = server.address() as AddressInfo;
  return {
    port,
    address: hostPort(deps.host, port),
    renew: (credentials) => server.setSecureContext(context(credentials)),
    close: (graceMs = CLOSE_GRACE_MS) =>
      new Promise((resolve) => {
        endRevocations();
        const timer = setTimeout(() => connections.destroy(), graceMs);
        server.close(() => {
          clearTimeout(timer);
          connections.destroy();
          resolve();
        });
        connections.drain();
      }),
  };
};
