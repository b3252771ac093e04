/**
 * A public TCP port: each connection is led to a replica, and to another one when it is refused.
 *
 * Invariants: of a client nothing is read before a replica has taken the connection, so nothing is lost by trying
 * another; a connection stays with its replica until one of the two ends it, or the replica's node is lost; without a
 * replica, and beyond the limit, a client is told at once; whoever is being connected to where nobody is led any more is
 * connected elsewhere, at once.
 */

import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import type { ForwardedPort } from '../../contracts/forwarder';
import { chooseEndpoint, endpointKey, type ForwardEndpoint } from '../../domain/ingress/balancing';
import { proxyHeader } from '../../domain/ingress/proxy-header';

import type { OpenPort, OpenPortOptions } from './open-port';
import { createOpenCounts } from './open-counts';
import { keepOpening } from './port-trouble';
import { relay } from './relay';

/** As many connections may wait, if the system lets them (net.core.somaxconn). */
const BACKLOG = 4_096;
/** As long as the ingress tries for a request. */
const TRY_FOR_MS = 5_000;
const TRY_AGAIN_MS = 100;
/** One packet may be lost on the way. */
const CONNECT_MS = 2_000;
/** Whoever has gone without a word is found out. */
const KEEP_ALIVE_MS = 30_000;

interface Connection {
  readonly client: Socket;
  readonly upstream: Socket;
  readonly key: string;
}

/** A connection to a replica that has not been made yet. */
interface Dialled {
  readonly key: string;
  /** Rejects when it is refused, or called off. */
  readonly connected: Promise<Socket>;
  callOff(): void;
}

const dial = (endpoint: ForwardEndpoint): Dialled => {
  const socket = connect({
    host: endpoint.address,
    port: endpoint.port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  });
  const timer = setTimeout(() => socket.destroy(new Error('it does not answer')), CONNECT_MS);
  const connected = new Promise<Socket>((resolve, reject) => {
    // For good: an error that nobody hears of would end the process.
    socket.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
  const callOff = () => void socket.destroy(new Error('nobody is led there any more'));
  return { key: endpointKey(endpoint), connected, callOff };
};

const refuse = (client: Socket): void => {
  if (!client.destroyed) client.resetAndDestroy();
};

export const openTcpPort = ({ host, port, limit, random, onTrouble }: OpenPortOptions): OpenPort => {
  let route: Pick<ForwardedPort, 'groups'> = { groups: [] };
  const connections = new Set<Connection>();
  const dialling = new Set<Dialled>();
  const open = createOpenCounts();
  let accepted = 0;
  let server: Server | undefined;
  let isClosed = false;

  const find = async (
    client: Socket,
  ): Promise<{ endpoint: ForwardEndpoint; upstream: Socket } | undefined> => {
    const endMs = performance.now() + TRY_FOR_MS;
    const tried = new Set<string>();
    for (;;) {
      const endpoint = chooseEndpoint(route.groups, open.of, (key) => tried.has(key), random);
      if (endpoint === undefined) {
        if (tried.size === 0 || performance.now() > endMs || client.destroyed) return undefined;
        tried.clear();
        await delay(TRY_AGAIN_MS);
        continue;
      }
      const dialled = dial(endpoint);
      const { key } = dialled;
      open.add(key);
      dialling.add(dialled);
      try {
        return { endpoint, upstream: await dialled.connected };
      } catch {
        open.remove(key);
        tried.add(key);
      } finally {
        dialling.delete(dialled);
      }
    }
  };

  const serve = async (client: Socket): Promise<void> => {
    const found = await find(client);
    if (found === undefined) return refuse(client);
    const { endpoint, upstream } = found;
    const connection: Connection = { client, upstream, key: endpointKey(endpoint) };
    connections.add(connection);
    upstream.once('close', () => {
      open.remove(connection.key);
      connections.delete(connection);
    });
    // One that has broken off meanwhile is not read yet, so it is known by having no address any more.
    if (client.remoteAddress === undefined) {
      upstream.destroy();
      return refuse(client);
    }
    if (endpoint.proxyProtocol !== undefined) {
      const header = proxyHeader(endpoint.proxyProtocol, {
        clientAddress: client.remoteAddress,
        clientPort: client.remotePort ?? 0,
        ownAddress: client.localAddress ?? '',
        ownPort: client.localPort ?? port,
      });
      upstream.write(header);
    }
    relay(client, upstream);
  };

  const accept = (client: Socket): void => {
    // Before it has a replica, there is nobody else to hear of it.
    client.on('error', () => undefined);
    if (accepted >= limit.count()) {
      limit.reached();
      return refuse(client);
    }
    accepted += 1;
    client.once('close', () => (accepted -= 1));
    void serve(client);
  };

  const listen = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const next = createServer(
        {
          allowHalfOpen: true,
          pauseOnConnect: true,
          noDelay: true,
          keepAlive: true,
          keepAliveInitialDelay: KEEP_ALIVE_MS,
        },
        accept,
      );
      next.once('error', reject);
      // Without a host, Node.js takes every address, and those of IPv4 where there is no IPv6.
      next.listen({ ...(host === '' ? {} : { host }), port, backlog: BACKLOG, exclusive: true }, () => {
        next.removeAllListeners('error');
        // Of single connections that could not be accepted; the others go on.
        next.on('error', () => undefined);
        if (isClosed) return void next.close();
        server = next;
        resolve();
      });
    });

  const opening = keepOpening(listen, onTrouble);

  return {
    lead: ({ groups, lost }) => {
      route = { groups };
      const isLost = new Set(lost.map(endpointKey));
      for (const { client, upstream, key } of connections) {
        if (!isLost.has(key)) continue;
        upstream.destroy();
        refuse(client);
      }
      const served = new Set(groups.flatMap(({ endpoints }) => endpoints.map(endpointKey)));
      for (const dialled of dialling) if (!served.has(dialled.key)) dialled.callOff();
    },
    close: () => {
      isClosed = true;
      opening.close();
      return new Promise((resolve) => {
        if (server === undefined) resolve();
        else server.close(() => resolve());
      });
    },
  };
};
