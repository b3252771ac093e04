/**
 * The connections of the cluster port: how many there may be, whose they are, and when they are cut.
 *
 * Invariants: nobody holds a connection for nothing: one that asks nothing, or whose other end does not answer, is
 * cut; who has shown no certificate has few connections and little time; a connection does not outlive the right of
 * its certificate.
 */

import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { lapse, peerOf, type Peer, type PeerRules } from './peer-identity';

export interface ConnectionLimits {
  /** Of all. */
  readonly connections: number;
  /** Of one node. */
  readonly connectionsPerNode: number;
  /** Of one address, before they have shown a certificate that counts. */
  readonly strangersPerAddress: number;
  /** Requests of one node that are under way, over all of its connections. */
  readonly requestsPerNode: number;
  /** How long a connection may ask nothing: of a node, and of a stranger. */
  readonly idleMs: number;
  readonly strangerIdleMs: number;
}

export interface Connection {
  readonly peer: Peer;
  /** Counts a request; false when there are too many. */
  begin(): boolean;
  end(): void;
}

export interface Connections {
  /** A TCP connection, before its handshake. */
  arrived(socket: Socket): void;
  /** Its handshake is done. */
  secured(socket: TLSSocket): void;
  /** @returns undefined when the connection is being cut */
  of(socket: Pick<Socket, 'remoteAddress' | 'remotePort'>): Connection | undefined;
  session(session: ServerHttp2Session): void;
  /** Cuts those whose certificate does not count any more. */
  recheck(): void;
  /** Says goodbye to all of them. */
  drain(): void;
  destroy(): void;
}

interface Entry extends Connection {
  readonly socket: TLSSocket;
  readonly nodeId: string | undefined;
  session?: ServerHttp2Session;
  requests: number;
  idleSinceMs: number;
  isPinging: boolean;
}

type Ends = Pick<Socket, 'remoteAddress' | 'remotePort'>;
const nameOf = ({ remoteAddress, remotePort }: Ends): string => `${remoteAddress ?? ''} ${remotePort ?? ''}`;

const createCounts = () => {
  const counts = new Map<string, number>();
  return {
    get: (key: string) => counts.get(key) ?? 0,
    add: (key: string, by: 1 | -1) => {
      const count = (counts.get(key) ?? 0) + by;
      if (count > 0) counts.set(key, count);
      else counts.delete(key);
    },
  };
};

export const createConnections = (rules: PeerRules, limits: ConnectionLimits): Connections => {
  const raw = new Set<Socket>();
  const strangers = createCounts();
  const ofNodes = createCounts();
  const requestsOfNodes = createCounts();
  /** By the name of the connection: each layer has an object of its own for it. */
  const entries = new Map<string, Entry>();
  /** Connections that count as strangers', with their address. */
  const strange = new Map<string, string>();
  const sweepMs = Math.max(20, Math.min(15_000, limits.strangerIdleMs / 2, limits.idleMs / 2));

  const noStranger = (name: string) => {
    const address = strange.get(name);
    if (address === undefined) return;
    strange.delete(name);
    strangers.add(address, -1);
  };

  /** Who had no right from the beginning is a stranger, to be told why. */
  const hasLapsed = ({ nodeId, peer }: Entry): boolean =>
    nodeId !== undefined && 'identity' in peer && lapse(peer.identity, rules) !== undefined;

  const sweep = () => {
    const now = performance.now();
    for (const entry of entries.values()) {
      const { socket, session, nodeId } = entry;
      const limitMs = nodeId === undefined ? limits.strangerIdleMs : limits.idleMs;
      const isIdle = entry.requests === 0 && now - entry.idleSinceMs > limitMs;
      // An answer to the last ping is due at the next look.
      if (hasLapsed(entry) || isIdle || entry.isPinging) socket.destroy();
      else if (session !== undefined && !session.destroyed && !session.closed) {
        entry.isPinging = session.ping(() => {
          entry.isPinging = false;
        });
      }
    }
  };
  const timer = setInterval(sweep, sweepMs);
  timer.unref();

  const createEntry = (socket: TLSSocket, peer: Peer): Entry => {
    const nodeId =
      'identity' in peer && lapse(peer.identity, rules) === undefined ? peer.identity.nodeId : undefined;
    const entry: Entry = {
      socket,
      peer,
      nodeId,
      requests: 0,
      idleSinceMs: performance.now(),
      isPinging: false,
      begin: () => {
        if (nodeId !== undefined && requestsOfNodes.get(nodeId) >= limits.requestsPerNode) return false;
        if (nodeId !== undefined) requestsOfNodes.add(nodeId, 1);
        entry.requests += 1;
        return true;
      },
      end: () => {
        if (nodeId !== undefined) requestsOfNodes.add(nodeId, -1);
        entry.requests -= 1;
        entry.idleSinceMs = performance.now();
      },
    };
    return entry;
  };

  return {
    arrived: (socket) => {
      const name = nameOf(socket);
      const address = socket.remoteAddress ?? '';
      if (raw.size >= limits.connections || strangers.get(address) >= limits.strangersPerAddress) {
        socket.destroy();
        return;
      }
      raw.add(socket);
      strange.set(name, address);
      strangers.add(address, 1);
      socket.once('close', () => {
        raw.delete(socket);
        noStranger(name);
      });
    },
    secured: (socket) => {
      const name = nameOf(socket);
      const entry = createEntry(socket, peerOf(socket, rules.clusterId));
      const { nodeId } = entry;
      if (nodeId !== undefined) {
        if (ofNodes.get(nodeId) >= limits.connectionsPerNode) {
          socket.destroy();
          return;
        }
        ofNodes.add(nodeId, 1);
        noStranger(name);
      }
      entries.set(name, entry);
      socket.once('close', () => {
        if (entries.get(name) === entry) entries.delete(name);
        if (nodeId !== undefined) ofNodes.add(nodeId, -1);
      });
    },
    of: (socket) => entries.get(nameOf(socket)),
    session: (session) => {
      const entry = entries.get(nameOf(session.socket));
      if (entry === undefined) session.destroy();
      else entry.session = session;
    },
    recheck: () => {
      for (const entry of entries.values()) if (hasLapsed(entry)) entry.socket.destroy();
    },
    drain: () => {
      for (const { session, socket, requests } of entries.values()) {
        if (session !== undefined) session.close();
        else if (requests === 0) socket.destroy();
      }
    },
    destroy: () => {
      clearInterval(timer);
      for (const { socket } of entries.values()) socket.destroy();
      for (const socket of raw) socket.destroy();
    },
  };
};
