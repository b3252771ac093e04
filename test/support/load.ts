// Steady load on one address by clients that count every failure: they send the next request when the last one is
// answered, on connections that they keep unless told otherwise, and try nothing twice.
import { Agent, request } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';

export interface LoadOptions {
  /** host:port that is dialled. */
  readonly address: string;
  /** The Host header. */
  readonly hostname: string;
  readonly clients: number;
  readonly path?: string;
  readonly method?: string;
  /** Sent with each request. */
  readonly body?: string;
  /** Over HTTPS, to who shows a certificate for the hostname by this root (PEM) alone. */
  readonly root?: string;
  /** On a new connection for each request. */
  readonly connectsAnew?: boolean;
  readonly timeoutMs?: number;
  /** What a client waits between an answer and its next request: for load that is steady rather than all there can be. */
  readonly pauseMs?: number;
}

export interface LoadReport {
  readonly answered: number;
  /** What went wrong, each with the time since the load began in milliseconds. */
  readonly failures: readonly string[];
  /** How often each body was answered. */
  readonly bodies: ReadonlyMap<string, number>;
}

export interface Load {
  /** So far. */
  report(): LoadReport;
  stop(): Promise<LoadReport>;
}

const DEFAULT_TIMEOUT_MS = 15_000;

export function startLoad(options: LoadOptions): Load {
  const { root, hostname } = options;
  const connections = { keepAlive: options.connectsAnew !== true, maxSockets: options.clients };
  const agent =
    root === undefined
      ? new Agent(connections)
      : new HttpsAgent({ ...connections, ca: root, servername: hostname });
  const [host = '', port = ''] = options.address.split(':');
  const startedAt = performance.now();
  const failures: string[] = [];
  const bodies = new Map<string, number>();
  let answered = 0;
  let isStopping = false;

  const ask = (): Promise<void> =>
    new Promise((resolve) => {
      const fail = (why: string): void => {
        failures.push(`${Math.round(performance.now() - startedAt)} ms: ${why}`);
        resolve();
      };
      const sent = (root === undefined ? request : httpsRequest)(
        {
          agent,
          host,
          port,
          method: options.method ?? 'GET',
          path: options.path ?? '/',
          headers: {
            host: hostname,
            ...(options.body === undefined ? {} : { 'content-length': Buffer.byteLength(options.body) }),
          },
          signal: AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS),
        },
        (response) => {
          let body = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (body += chunk));
          response.on('error', (error) => fail(`the answer broke off: ${error.message}`));
          response.on('end', () => {
            if (response.statusCode !== 200) return fail(`status ${response.statusCode}: ${body}`);
            answered += 1;
            bodies.set(body, (bodies.get(body) ?? 0) + 1);
            resolve();
          });
        },
      );
      sent.on('error', (error) => fail(error.message));
      sent.end(options.body);
    });

  const client = async (): Promise<void> => {
    while (!isStopping) {
      await ask();
      if (options.pauseMs !== undefined) await delay(options.pauseMs);
    }
  };
  const running = Promise.all(Array.from({ length: options.clients }, client));

  const report = (): LoadReport => ({ answered, failures: [...failures], bodies: new Map(bodies) });
  return {
    report,
    stop: async () => {
      isStopping = true;
      await running;
      agent.destroy();
      return report();
    },
  };
}
