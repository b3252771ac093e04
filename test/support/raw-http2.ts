// HTTP/2 over TLS as frames: a client that sends exactly what it is told, which Node.js's own would refuse to.
import { connect } from 'node:tls';

export interface RawStream {
  readonly port: number;
  readonly hostname: string;
  /** In their order, pseudo-headers first; nothing is added. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Left out: the request ends with its headers. */
  readonly body?: string;
}

/** What a server says of the only stream first: an answer, or how it ends it. */
export type RawStreamEnd =
  | { readonly kind: 'answered'; readonly status: number | undefined }
  | { readonly kind: 'reset' | 'going-away'; readonly code: number }
  | { readonly kind: 'closed' };

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const DATA = 0;
const HEADERS = 1;
const RESET = 3;
const SETTINGS = 4;
const GOING_AWAY = 7;
const END_STREAM = 1;
const END_HEADERS = 4;
const HEAD_BYTES = 9;
const TIMEOUT_MS = 15_000;

/** PROTOCOL_ERROR of RFC 9113, 7. */
export const PROTOCOL_ERROR = 1;

const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};

/** Plain, and in no table (RFC 7541, 6.2.2); it has 126 bytes at most. */
const literal = (text: string): Buffer =>
  Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);

/** Those of its static table that are statuses (RFC 7541, A); others are literals. */
const STATUSES: Readonly<Record<number, number>> = {
  0x88: 200,
  0x89: 204,
  0x8a: 206,
  0x8b: 304,
  0x8c: 400,
  0x8d: 404,
  0x8e: 500,
};

const endIn = (type: number, payload: Buffer): RawStreamEnd | undefined => {
  if (type === HEADERS) return { kind: 'answered', status: STATUSES[payload[0] ?? 0] };
  if (type === RESET) return { kind: 'reset', code: payload.readUInt32BE(0) };
  if (type === GOING_AWAY) return { kind: 'going-away', code: payload.readUInt32BE(4) };
  return undefined;
};

/** One request on a connection of its own. */
export const sendStream = ({ port, hostname, headers, body }: RawStream): Promise<RawStreamEnd> =>
  new Promise((resolve, reject) => {
    const socket = connect({
      port,
      host: '127.0.0.1',
      servername: hostname,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
    });
    const done = (end: RawStreamEnd): void => {
      socket.destroy();
      resolve(end);
    };
    const block = headers.flatMap(([name, value]) => [Buffer.of(0), literal(name), literal(value)]);
    socket.once('secureConnect', () => {
      socket.write(PREFACE, 'latin1');
      socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));
      const flags = END_HEADERS | (body === undefined ? END_STREAM : 0);
      socket.write(frame(HEADERS, flags, 1, Buffer.concat(block)));
      if (body !== undefined) socket.write(frame(DATA, END_STREAM, 1, Buffer.from(body, 'latin1')));
    });
    let unread = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      unread = Buffer.concat([unread, chunk]);
      while (unread.length >= HEAD_BYTES && unread.length >= HEAD_BYTES + unread.readUIntBE(0, 3)) {
        const length = unread.readUIntBE(0, 3);
        const end = endIn(unread.readUInt8(3), unread.subarray(HEAD_BYTES, HEAD_BYTES + length));
        if (end !== undefined) return done(end);
        unread = unread.subarray(HEAD_BYTES + length);
      }
    });
    socket.setTimeout(TIMEOUT_MS, () => {
      socket.destroy();
      reject(new Error(`nothing was said of the stream within ${TIMEOUT_MS} ms`));
    });
    socket.on('error', () => done({ kind: 'closed' }));
    socket.on('close', () => done({ kind: 'closed' }));
  });
