/**
 * The one HTTP/2 session to the embedded Temporal, over which the calls of all nodes go.
 *
 * Invariants: made when it is needed, and made anew once it has broken or the server has said goodbye (which Temporal
 * does every few minutes); calls that are under way on the old one may end there.
 */

import {
  connect,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type OutgoingHttpHeaders,
} from 'node:http2';

export interface TemporalSession {
  /** @throws when there is no connection to ask over, which the stream's own `error` tells otherwise */
  request(headers: OutgoingHttpHeaders): ClientHttp2Stream;
  close(): void;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Sizes of HTTP/2's windows: with the 64 KB of the standard, one large task would hold up all other calls. */
const STREAM_WINDOW_BYTES = 1_048_576;
const SESSION_WINDOW_BYTES = 16_777_216;

/** @param address of Temporal's frontend, like 127.0.0.1:7233 */
export const createTemporalSession = (address: string): TemporalSession => {
  let current: ClientHttp2Session | undefined;
  const sessions = new Set<ClientHttp2Session>();

  const open = (): ClientHttp2Session => {
    const session = connect(`http://${address}`, {
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    const timer = setTimeout(
      () => session.destroy(new Error(`no connection in ${CONNECT_TIMEOUT_MS} ms`)),
      CONNECT_TIMEOUT_MS,
    );
    const forget = () => {
      clearTimeout(timer);
      if (current === session) current = undefined;
    };
    session.on('connect', () => {
      clearTimeout(timer);
      session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    });
    session.on('goaway', forget);
    // Each call that it takes along tells of it; there is nobody else to tell.
    session.on('error', forget);
    session.on('close', () => {
      forget();
      sessions.delete(session);
    });
    sessions.add(session);
    return session;
  };

  return {
    request: (headers) => {
      if (current === undefined || current.closed || current.destroyed) current = open();
      return current.request(headers, { endStream: false });
    },
    close: () => {
      current = undefined;
      for (const session of sessions) session.destroy();
    },
  };
};
