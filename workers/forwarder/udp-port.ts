/**
 * A public UDP port: what comes from one client address goes to one replica, and its answers go back there.
 *
 * Invariants: a client that says nothing for a minute, and is told nothing, is forgotten; one whose replica is withdrawn
 * goes to another one with its next datagram, and still gets the answers that are on their way; what a replica has
 * refused, and nobody has answered, is sent to another one.
 */

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';

import type { ForwardedPort } from '../../contracts/forwarder';
import { chooseEndpoint, endpointKey } from '../../domain/ingress/balancing';

import { createOpenCounts } from './open-counts';
import type { OpenPort, OpenPortOptions } from './open-port';
import { keepOpening } from './port-trouble';

/** As long as most do: less, and a client that asks now and then would get another replica each time. */
const IDLE_MS = 60_000;
/** Answers of a replica that is withdrawn. */
const LEAVING_MS = 5_000;
const SWEEP_EVERY_MS = 1_000;
/** What is kept to be sent to another replica: a refusal comes back at once. */
const RESEND_WITHIN_MS = 1_000;
const MAX_UNANSWERED = 8;
const MAX_UNANSWERED_BYTES = 16_384;

interface Sent {
  readonly data: Buffer;
  readonly atMs: number;
}

/** Those that may still be sent to another replica. Kept for longer, those of clients that nobody answers fill the memory. */
const notTooOld = (sent: Sent[]): Sent[] => {
  const sinceMs = performance.now() - RESEND_WITHIN_MS;
  return sent.filter(({ atMs }) => atMs >= sinceMs);
};

interface Session {
  readonly client: RemoteInfo;
  readonly upstream: Socket;
  readonly key: string;
  /** The last of what was said since the last answer. */
  unanswered: Sent[];
  /** Replicas that have refused what is unanswered. */
  readonly tried: Set<string>;
  isConnected: boolean;
  endsAtMs: number;
}

export interface UdpPortOptions extends OpenPortOptions {
  readonly idleMs?: number;
}

export const openUdpPort = (options: UdpPortOptions): OpenPort => {
  const { host, port, limit, random, onTrouble, idleMs = IDLE_MS } = options;
  let groups: ForwardedPort['groups'] = [];
  let served = new Set<string>();
  let socket: Socket | undefined;
  /** By the client's address; whoever was heard last comes last. */
  const sessions = new Map<string, Session>();
  /** Of replicas that get nothing new. */
  const leaving = new Set<Session>();
  const open = createOpenCounts();
  let sweeper: NodeJS.Timeout | undefined;
  let isClosed = false;

  const clientKey = ({ address, port: from }: RemoteInfo): string => `${address} ${from}`;

  const end = (session: Session): void => {
    const key = clientKey(session.client);
    const isKnown = sessions.get(key) === session && sessions.delete(key);
    if (!leaving.delete(session) && !isKnown) return;
    open.remove(session.key);
    session.upstream.close();
  };

  /** Nothing more is sent there. */
  const leave = (session: Session): void => {
    sessions.delete(clientKey(session.client));
    session.endsAtMs = Math.min(session.endsAtMs, performance.now() + LEAVING_MS);
    leaving.add(session);
  };

  const sweep = (): void => {
    const now = performance.now();
    for (const session of [...sessions.values(), ...leaving]) {
      if (session.endsAtMs <= now) end(session);
      else session.unanswered = notTooOld(session.unanswered);
    }
    if (sessions.size + leaving.size > 0) return;
    clearInterval(sweeper);
    sweeper = undefined;
  };

  const send = (session: Session, data: Buffer): void =>
    session.upstream.send(data, () => undefined /* told by `error`, if at all */);

  const refused = (session: Session): void => {
    const { client, unanswered, tried, key } = session;
    end(session);
    const again = notTooOld(unanswered);
    if (again.length === 0) return;
    const next = sessions.get(clientKey(client)) ?? begin(client, new Set([...tried, key]));
    for (const { data } of again) if (next !== undefined) pass(next, data);
  };

  const begin = (client: RemoteInfo, tried: Set<string>): Session | undefined => {
    const endpoint = chooseEndpoint(groups, open.of, (key) => tried.has(key), random);
    if (endpoint === undefined) return undefined;
    if (sessions.size >= limit.count()) {
      limit.reached();
      const [oldest] = sessions.values();
      if (oldest !== undefined) end(oldest);
    }
    const upstream = createSocket(endpoint.address.includes(':') ? 'udp6' : 'udp4');
    const session: Session = {
      client,
      upstream,
      key: endpointKey(endpoint),
      unanswered: [],
      tried,
      isConnected: false,
      endsAtMs: performance.now() + idleMs,
    };
    open.add(session.key);
    sessions.set(clientKey(client), session);
    upstream.on('message', (data) => {
      session.unanswered = [];
      session.tried.clear();
      if (!leaving.has(session)) session.endsAtMs = performance.now() + idleMs;
      socket?.send(data, client.port, client.address, () => undefined);
    });
    upstream.on('error', () => refused(session));
    upstream.once('connect', () => {
      session.isConnected = true;
      for (const { data } of session.unanswered) send(session, data);
    });
    // Only a connected socket is told that nobody listens there, and hears nobody else. Without a callback, which would be
    // told of failures, too, they are errors of the socket: of a machine that is cut off from its network, mostly.
    upstream.connect(endpoint.port, endpoint.address);
    sweeper ??= setInterval(sweep, SWEEP_EVERY_MS).unref();
    return session;
  };

  const pass = (session: Session, data: Buffer): void => {
    const now = performance.now();
    session.endsAtMs = now + idleMs;
    const { unanswered } = session;
    unanswered.push({ data, atMs: now });
    const isTooMuch = (): boolean =>
      unanswered.length > MAX_UNANSWERED ||
      unanswered.reduce((sum, one) => sum + one.data.length, 0) > MAX_UNANSWERED_BYTES;
    // Before it is connected, what comes too fast is lost, as on any network.
    while (unanswered.length > 1 && isTooMuch()) unanswered.shift();
    if (session.isConnected) send(session, data);
  };

  const take = (data: Buffer, client: RemoteInfo): void => {
    // Whoever says so wants no answer, and nobody can send one there.
    if (client.port === 0) return;
    const key = clientKey(client);
    const known = sessions.get(key);
    if (known !== undefined && !served.has(known.key)) leave(known);
    const session = sessions.get(key) ?? begin(client, new Set());
    if (session === undefined) return;
    sessions.delete(key);
    sessions.set(key, session);
    pass(session, data);
  };

  const bind = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const attempt = (type: 'udp4' | 'udp6'): void => {
        const next = createSocket(type);
        next.once('error', (error: NodeJS.ErrnoException) => {
          next.close();
          // A machine without IPv6.
          if (host === '' && type === 'udp6' && error.code !== 'EADDRINUSE' && error.code !== 'EACCES') {
            return attempt('udp4');
          }
          reject(error);
        });
        next.bind({ port, exclusive: true, ...(host === '' ? {} : { address: host }) }, () => {
          next.removeAllListeners('error');
          next.on('error', () => undefined);
          if (isClosed) return void next.close();
          next.on('message', take);
          socket = next;
          resolve();
        });
      };
      // One of IPv6 on all addresses takes what comes over IPv4, too.
      attempt(host === '' || host.includes(':') ? 'udp6' : 'udp4');
    });

  const opening = keepOpening(bind, onTrouble);

  return {
    lead: ({ groups: next, lost }) => {
      groups = next;
      served = new Set(next.flatMap(({ endpoints }) => endpoints.map(endpointKey)));
      const isLost = new Set(lost.map(endpointKey));
      for (const session of [...sessions.values(), ...leaving]) if (isLost.has(session.key)) end(session);
    },
    close: async () => {
      isClosed = true;
      opening.close();
      for (const session of [...sessions.values(), ...leaving]) end(session);
      clearInterval(sweeper);
      socket?.close();
      socket = undefined;
    },
  };
};
