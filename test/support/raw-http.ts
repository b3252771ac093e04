// HTTP as bytes: a client that sends exactly what it is told, and a replica that keeps exactly what it gets.
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface RawAnswer {
  /** All that was answered, as latin1. */
  readonly text: string;
  /** Whether the server has ended the connection by then. */
  readonly isClosed: boolean;
  readonly tookMs: number;
}

export interface RawOptions {
  /** No more is waited for once this is true of what was answered; otherwise until the connection is closed. */
  readonly until?: (text: string) => boolean;
  /** Called with the connection when all is sent. */
  readonly then?: (socket: Socket) => void;
  readonly timeoutMs?: number;
}

/** True of one whole answer with a `Content-Length`, or without a body. */
export const isWholeAnswer = (text: string): boolean => {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0 || /^HTTP\/1.1 100 /.test(text)) return end >= 0 && isWholeAnswer(text.slice(end + 4));
  const length = /^content-length: (\d+)$/im.exec(text.slice(0, end));
  return length !== null && text.length >= end + 4 + Number(length[1]);
};

/** Sends these bytes (latin1). */
export const sendBytes = (
  port: number,
  bytes: string,
  { until = isWholeAnswer, then, timeoutMs = 60_000 }: RawOptions = {},
): Promise<RawAnswer> =>
  new Promise((resolve, reject) => {
    const startedAt = performance.now();
    let text = '';
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(Buffer.from(bytes, 'latin1'));
      then?.(socket);
    });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no whole answer within ${timeoutMs} ms, but: ${text}`));
    }, timeoutMs);
    const done = (isClosed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, isClosed, tookMs: performance.now() - startedAt });
    };
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (until(text)) done(false);
    });
    // Reset instead of ended: the server has left bytes unread.
    socket.on('error', () => done(true));
    socket.on('close', () => done(true));
  });

export interface RawReplica {
  readonly server: Server;
  /** What was received since the last call, on all connections, in the order of their beginning. */
  received(): readonly string[];
  /** Connections that are open. */
  open(): number;
}

/** Where the first request of these bytes ends; undefined when it is not all there. */
const endOfRequest = (bytes: string): number | undefined => {
  const head = bytes.indexOf('\r\n\r\n');
  if (head < 0) return undefined;
  const body = head + 4;
  const headers = bytes.slice(0, head);
  if (/^transfer-encoding: chunked$/im.test(headers)) {
    const last = /(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(bytes.slice(body));
    return last === null ? undefined : body + last.index + last[0].length;
  }
  const end = body + Number(/^content-length: (\d+)$/im.exec(headers)?.[1] ?? 0);
  return bytes.length < end ? undefined : end;
};

/** @param answer called with each whole request; what it returns is sent as it is */
export const createRawReplica = (answer: (request: string, socket: Socket) => string): RawReplica => {
  let kept: string[] = [];
  let open = 0;
  const server = createServer((socket) => {
    let rest = '';
    let index: number | undefined;
    let list = kept;
    open += 1;
    socket.setEncoding('latin1');
    socket.on('error', () => undefined);
    socket.on('close', () => (open -= 1));
    socket.on('data', (chunk: string) => {
      if (index === undefined || list !== kept) {
        list = kept;
        index = list.push('') - 1;
      }
      list[index] += chunk;
      rest += chunk;
      for (let end = endOfRequest(rest); end !== undefined; end = endOfRequest(rest)) {
        const request = rest.slice(0, end);
        rest = rest.slice(end);
        socket.write(Buffer.from(answer(request, socket), 'latin1'));
      }
    });
  });
  return {
    server,
    received: () => {
      const all = kept;
      kept = [];
      return all;
    },
    open: () => open,
  };
};
