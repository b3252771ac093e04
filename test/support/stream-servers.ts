// TCP servers and clients that say what tests want to hear, on this machine's loopback.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

export interface StreamServer {
  readonly port: number;
  /** Connections that have been made so far. */
  accepted(): number;
  /** Those that are open. */
  open(): number;
  /** Takes nothing new. */
  stopListening(): void;
  /** Breaks off what is open, too. */
  kill(): void;
}

/** @param onConnection of a connection that may be half-closed */
export async function startStreamServer(
  onConnection: (socket: Socket) => void,
  port = 0,
): Promise<StreamServer> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    accepted: () => accepted,
    open: () => sockets.size,
    stopListening: () => void server.close(),
    kill: () => {
      server.close();
      for (const socket of sockets) socket.resetAndDestroy();
    },
  };
}

/** Answers each line with its name and the line. */
export const startNamed = (name: string, port?: number): Promise<StreamServer> =>
  startStreamServer((socket) => {
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => socket.write(`${name}: ${text}`));
    socket.on('end', () => socket.end());
  }, port);

export const dialPort = async (port: number): Promise<Socket> => {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
};

/** Says a line on an open connection. @returns the answer @throws when the connection ends before */
export const say = (socket: Socket, line: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const onData = (data: Buffer): void => {
      socket.removeListener('close', onClose);
      resolve(data.toString().trim());
    };
    const onClose = (): void => reject(new Error('the connection has ended'));
    socket.once('data', onData);
    socket.once('close', onClose);
    socket.write(`${line}\n`);
  });

/** One line on a connection of its own. */
export async function askPort(port: number, line: string): Promise<string> {
  const socket = await dialPort(port);
  try {
    return await say(socket, line);
  } finally {
    socket.destroy();
  }
}

export const hasClosed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()));

export const sha256Of = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Everything until the other end has said all. @throws when the connection breaks off */
export const readAll = (socket: Socket): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('end', () => resolve(Buffer.concat(chunks)));
    socket.once('close', () => reject(new Error('the connection broke off')));
    socket.resume();
  });

export interface StreamLoad {
  stop(): Promise<{ readonly answered: number; readonly failures: readonly string[] }>;
}

/** Clients that make a connection for each line, and try nothing twice. */
export function startStreamLoad(port: number, clients: number): StreamLoad {
  const failures: string[] = [];
  let answered = 0;
  let isStopping = false;
  const client = async (): Promise<void> => {
    while (!isStopping) {
      try {
        await askPort(port, 'hello');
        answered += 1;
      } catch (error) {
        failures.push((error as Error).message);
      }
    }
  };
  const running = Promise.all(Array.from({ length: clients }, client));
  return {
    stop: async () => {
      isStopping = true;
      await running;
      return { answered, failures };
    },
  };
}
