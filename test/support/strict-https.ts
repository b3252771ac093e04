// HTTPS as a client asks that trusts one root alone and checks the name, on a new connection each time.
import { Agent, request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { text as readText } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';

export interface StrictRequest {
  /** Address and port that are dialled. */
  readonly host: string;
  readonly port?: number;
  readonly hostname: string;
  /** PEM of the root, or several. */
  readonly root: string;
  /** Whose TLS sessions are gone on with; left out: every handshake is a full one. */
  readonly sessionsOf?: Agent;
}

export interface StrictAnswer {
  readonly status: number;
  readonly text: string;
  /** Of the certificate. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const TIMEOUT_MS = 15_000;

/** @throws when the certificate is not what such a client takes */
export const askStrictly = ({
  host,
  port = 443,
  hostname,
  root,
  sessionsOf,
}: StrictRequest): Promise<StrictAnswer> =>
  new Promise((resolve, reject) => {
    const sent = request(
      {
        ...{ host, port, ca: root, servername: hostname, headers: { host: hostname } },
        agent: sessionsOf ?? false,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      },
      (response) => {
        const certificate = (response.socket as TLSSocket).getPeerCertificate();
        const shown = {
          status: response.statusCode ?? 0,
          serial: certificate.serialNumber,
          notBeforeMs: Date.parse(certificate.valid_from),
          notAfterMs: Date.parse(certificate.valid_to),
        };
        readText(response).then((text) => resolve({ ...shown, text }), reject);
      },
    );
    sent.on('error', reject);
    sent.end();
  });

/** A certificate that a client was shown, and when it saw it first. */
export interface SeenCertificate extends Pick<StrictAnswer, 'serial' | 'notBeforeMs' | 'notAfterMs'> {
  readonly sinceMs: number;
}

export interface HandshakeLoad {
  /** What each client, by its name, was shown: each certificate that followed another one. */
  seen(): ReadonlyMap<string, readonly SeenCertificate[]>;
  /** How many requests were answered. */
  answered(): number;
  /** @returns what went wrong, as `client: why` */
  stop(): Promise<readonly string[]>;
}

/** Between an answer and the next handshake, so that most of the machine is left to what is tested. */
const PAUSE_MS = 5;

/**
 * Clients that make a new connection for each request, all the time, and try nothing twice. Of each there is a second one
 * that goes on with TLS sessions where the server lets it; what that one was shown is not recorded.
 */
export const startHandshakes = (clients: ReadonlyMap<string, StrictRequest>): HandshakeLoad => {
  const failures: string[] = [];
  const seen = new Map<string, SeenCertificate[]>();
  let answered = 0;
  let isStopping = false;

  const run = async (name: string, asked: StrictRequest, record?: SeenCertificate[]): Promise<void> => {
    while (!isStopping) {
      try {
        const { status, text, serial, notBeforeMs, notAfterMs } = await askStrictly(asked);
        if (status !== 200) throw new Error(`status ${status}: ${text}`);
        answered += 1;
        if (record !== undefined && record.at(-1)?.serial !== serial)
          record.push({ serial, notBeforeMs, notAfterMs, sinceMs: Date.now() });
      } catch (error) {
        failures.push(`${name}: ${(error as Error).message}`);
      }
      await delay(PAUSE_MS);
    }
  };

  const running = [...clients].flatMap(([name, asked]) => {
    const record: SeenCertificate[] = [];
    seen.set(name, record);
    const sessionsOf = new Agent({ keepAlive: false });
    return [run(name, asked, record), run(`${name}, resuming`, { ...asked, sessionsOf })];
  });

  return {
    seen: () => seen,
    answered: () => answered,
    stop: async () => {
      isStopping = true;
      await Promise.all(running);
      return failures;
    },
  };
};
