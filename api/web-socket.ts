/**
 * WebSockets of the API: a request to become one goes the way of every other request, through the application, so that
 * whatever is refused is refused alike, with the same checks and the same answers.
 *
 * Invariants: a socket is no more than a request until its route takes it; messages are taken one after the other, and
 * no faster than they are worked off.
 */

import { IncomingMessage, ServerResponse, type Server } from 'node:http';
import type { Socket } from 'node:net';

import type { Express } from 'express';
import { WebSocketServer, type WebSocket } from 'ws';

import { ContainerOsError } from '../domain/errors';

import type { Exchange } from './exchange';

interface Upgrade {
  readonly socket: Socket;
  /** What came after the head of the request already. */
  readonly head: Buffer;
}

const upgrades = new WeakMap<IncomingMessage, Upgrade>();

const MAX_MESSAGE_BYTES = 1_048_576;
const PING_MS = 15_000;
/** For the client's goodbye. */
const CLOSE_GRACE_MS = 2_000;
const MAX_WAITING_MESSAGES = 4;

const isWebSocket = ({ headers }: IncomingMessage): boolean => headers.upgrade?.toLowerCase() === 'websocket';

/**
 * Requests of which only WebSockets are upgrades: other offers (HTTP/2 of some clients) are passed over, as a server
 * may, and their bodies are read as of any other request.
 */
export class ApiRequest extends IncomingMessage {
  declare private isUpgrade: boolean | null;

  get upgrade(): boolean | null {
    return this.isUpgrade === true && isWebSocket(this);
  }

  set upgrade(value: boolean | null) {
    this.isUpgrade = value;
  }
}

/** Hands requests for WebSockets to the application. */
export const serveUpgrades = (server: Server, app: Express): void => {
  server.on('upgrade', (req, socket: Socket, head) => {
    socket.on('error', () => socket.destroy());
    upgrades.set(req, { socket, head });
    const res = new ServerResponse(req);
    res.shouldKeepAlive = false;
    res.assignSocket(socket);
    res.once('finish', () => {
      res.detachSocket(socket);
      socket.destroySoon();
    });
    app(req, res);
  });
};

const server = new WebSocketServer({
  noServer: true,
  maxPayload: MAX_MESSAGE_BYTES,
  perMessageDeflate: false,
  handleProtocols: (offered) => [...offered].find((name) => !name.includes('.bearer.')) ?? false,
});

/** @throws {ContainerOsError} `invalid` when the request does not ask for it */
export const acceptWebSocket = ({ req, res }: Exchange): Promise<WebSocket> => {
  const upgrade = upgrades.get(req);
  const isKnown =
    req.headers['sec-websocket-version'] === '13' &&
    /^[+/0-9A-Za-z]{22}==$/.test(req.headers['sec-websocket-key'] ?? '');
  if (upgrade === undefined || !isWebSocket(req) || !isKnown) {
    throw new ContainerOsError(
      'invalid',
      'This path speaks WebSocket (RFC 6455, version 13). To run a command without one, use POST.',
    );
  }
  const { socket, head } = upgrade;
  res.detachSocket(socket);
  res.statusCode = 101;
  return new Promise((resolve) => {
    server.handleUpgrade(req, socket, head, (webSocket) => {
      // What the application does at the end of every request.
      webSocket.once('close', () => res.emit('close'));
      webSocket.on('error', () => undefined); // 'close' follows
      keepAlive(webSocket);
      resolve(webSocket);
    });
  });
};

/** Cuts a client that does not answer. */
const keepAlive = (webSocket: WebSocket): void => {
  let isAnswered = true;
  webSocket.on('pong', () => (isAnswered = true));
  const timer = setInterval(() => {
    // Nothing is heard of one that is not listened to; that it is gone shows when this is written.
    if (!isAnswered && !webSocket.isPaused) return webSocket.terminate();
    isAnswered = webSocket.isPaused;
    webSocket.ping();
    return undefined;
  }, PING_MS);
  webSocket.once('close', () => clearInterval(timer));
};

export interface WebSocketMessage {
  readonly isBinary: boolean;
  readonly data: Buffer;
}

/** The messages, until the client closes. To be called at once, and read once. */
export const messagesOf = (webSocket: WebSocket): AsyncGenerator<WebSocketMessage, void> => {
  const waiting: WebSocketMessage[] = [];
  let wake: () => void = () => undefined;
  let isClosed = false;
  webSocket.on('message', (data: Buffer, isBinary) => {
    waiting.push({ data, isBinary });
    if (waiting.length >= MAX_WAITING_MESSAGES) webSocket.pause();
    wake();
  });
  webSocket.once('close', () => {
    isClosed = true;
    wake();
  });
  return (async function* () {
    for (;;) {
      const next = waiting.shift();
      if (next !== undefined) {
        yield next;
        continue;
      }
      if (isClosed) return;
      if (webSocket.isPaused) webSocket.resume();
      await new Promise<void>((resolve) => (wake = resolve));
    }
  })();
};

/** Resolves when it is on its way, or never will be: who has gone needs nothing more. */
export const sendMessage = (webSocket: WebSocket, data: Buffer | string): Promise<void> =>
  new Promise((resolve) => {
    if (webSocket.readyState !== webSocket.OPEN) return resolve();
    webSocket.send(data, () => resolve());
  });

export const closeWebSocket = (webSocket: WebSocket, code: number, reason: string): void => {
  // Its goodbye has to be heard.
  if (webSocket.isPaused) webSocket.resume();
  webSocket.close(code, reason);
  const timer = setTimeout(() => webSocket.terminate(), CLOSE_GRACE_MS);
  webSocket.once('close', () => clearTimeout(timer));
};
