// A client of HTTP/3, which Node.js does not speak: aioquic, in the Python environment of the tests.
// Invariants: it trusts the root that it is given alone, and checks the name; one connection for all requests, as long as
// the server lets it; nothing is sent again but what the server says that it has not looked at.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { findPythonProgram } from './programs';

export interface Http3Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** Whether the server has taken it before the handshake was complete. */
  readonly wasEarly: boolean;
}

export interface Http3Request {
  readonly method?: string;
  readonly path?: string;
  readonly body?: string;
  /** Between the halves of the body. */
  readonly pauseMs?: number;
  /** On a new connection that goes on with the session of the last one, before its handshake is complete (0-RTT). */
  readonly early?: boolean;
}

export interface Http3Client {
  /** @throws when it is not answered */
  ask(request?: Http3Request): Promise<Http3Answer>;
  close(): Promise<void>;
}

export interface Http3Options {
  readonly port: number;
  readonly hostname: string;
  /** PEM of the root. */
  readonly root: string;
}

/** Connects with the first request. */
export const startHttp3Client = ({ port, hostname, root }: Http3Options): Http3Client => {
  const script = join(__dirname, 'http3-client.py');
  const client = spawn(findPythonProgram('python'), [script, '127.0.0.1', String(port), hostname, root], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const waiting: { readonly resolve: (line: string) => void; readonly reject: (error: Error) => void }[] = [];
  createInterface({ input: client.stdout }).on('line', (line) => waiting.shift()?.resolve(line));
  const ended = once(client, 'exit').then(([code]) => {
    for (const { reject } of waiting.splice(0)) reject(new Error(`the client has ended with ${code}`));
  });
  return {
    ask: async (request = {}) => {
      const line = new Promise<string>((resolve, reject) => waiting.push({ resolve, reject }));
      client.stdin.write(`${JSON.stringify(request)}\n`);
      const answer = JSON.parse(await line) as Http3Answer | { readonly error: string };
      if ('error' in answer) throw new Error(answer.error);
      return answer;
    },
    close: async () => {
      client.stdin.end();
      await ended;
    },
  };
};
