/**
 * One JSON request to the cluster port, from a machine that is a node or is to become one.
 *
 * Invariant: nothing is sent before the server has shown a certificate of the authority that is expected; but for the word
 * that this machine gives up, which holds nothing that is not for everybody.
 */

import { X509Certificate, createHash } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';

import type { NodeCredentials } from '../../adapters/cluster-port/port-client';
import { SERVER_NAME } from '../../contracts/authority';
import { JOIN_PATH, type JoinGivenUp } from '../../contracts/join';
import { ContainerOsError, isErrorCode } from '../../domain/errors';

const TIMEOUT_MS = 15_000;
/** So long the person who waits for an error waits for the cluster to hear of it, at most. */
const GIVE_UP_TIMEOUT_MS = 3_000;
const MAX_ANSWER_BYTES = 256_000;

const unreachable = (address: string, why: string, cause?: unknown) =>
  new ContainerOsError(
    'unavailable',
    `The cluster at ${address} cannot be reached: ${why}. See that ContainerOS runs there, that the address is that of its cluster port, and that no firewall is in between.`,
    [],
    { cause },
  );

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  EHOSTUNREACH: 'no such machine answers on the network',
  ENETUNREACH: 'there is no way to that network',
  ETIMEDOUT: 'nobody answers there',
  ENOTFOUND: 'there is no machine of that name',
  EAI_AGAIN: 'the name cannot be looked up now',
  ECONNRESET: 'what answers there hangs up',
  EPROTO: 'what answers there does not speak as a cluster port does (TLS 1.3)',
};

/** What sockets say, for people; the rest in their own words. */
const inWords = (error: NodeJS.ErrnoException): string => {
  const code = error.code ?? '';
  return WORDS[code.startsWith('ERR_SSL_') ? 'EPROTO' : code] ?? error.message;
};

const wrongClock = (address: string, validity: string, cause?: unknown) =>
  new ContainerOsError(
    'invalid',
    `The clock of this machine says ${new Date(Date.now()).toISOString()}, at which the certificate of the cluster at ${address} does not count${validity}. Set the clock of this machine (for example by NTP), or that of the cluster if it is the wrong one, and try again.`,
    [],
    { cause },
  );

/** What a request that was not answered failed of. */
const failure = (address: string, error: NodeJS.ErrnoException): ContainerOsError =>
  error.code === 'CERT_NOT_YET_VALID' || error.code === 'CERT_HAS_EXPIRED'
    ? wrongClock(address, '', error)
    : unreachable(address, inWords(error), error);

/** @throws {ContainerOsError} `invalid` when the certificate does not count by this machine's clock */
const assertValidNow = (address: string, certificate: X509Certificate): void => {
  const [fromMs, toMs] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  const now = Date.now();
  if (now >= fromMs && now < toMs) return;
  const [from, to] = [fromMs, toMs].map((ms) => new Date(ms).toISOString());
  throw wrongClock(address, ` (it does from ${from} to ${to})`);
};

const hostOf = (address: string): string => new URL(`https://${address}`).hostname.replace(/^\[|\]$/g, '');
const portOf = (address: string): number => Number(new URL(`https://${address}`).port || 443);

/**
 * Looks which authority a server's certificate ends in, and compares.
 *
 * @param address host:port
 * @param fingerprint SHA-256 of the authority's certificate, in hex, as a join token has it
 * @returns PEM of that authority, which the request itself is then made with
 * @throws {ContainerOsError} `forbidden` when it is another one; `invalid` when this machine's clock is wrong;
 *   `unavailable` when nobody answers
 */
export const fetchAuthority = (
  address: string,
  fingerprint: string,
  timeoutMs = TIMEOUT_MS,
): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket: TLSSocket = connect({
      host: hostOf(address),
      port: portOf(address),
      // What is shown is looked at here, and the request itself is made with this authority alone.
      rejectUnauthorized: false,
      servername: SERVER_NAME,
      minVersion: 'TLSv1.3',
    });
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
    };
    const fail = (error: ContainerOsError) => {
      end();
      reject(error);
    };
    // Of the whole: what says a little now and then says nothing.
    const timer = setTimeout(
      () => fail(unreachable(address, `no answer in ${timeoutMs / 1_000} s`)),
      timeoutMs,
    );
    socket.on('error', (error: Error) => fail(failure(address, error)));
    socket.once('secureConnect', () => {
      try {
        const found = authorityOf(socket, fingerprint);
        if (found === undefined) {
          throw new ContainerOsError(
            'forbidden',
            `The cluster at ${address} is not the one that the join token is for: its certificate is of another authority. Check the address; if it is right, somebody else answers there.`,
          );
        }
        const shown = socket.getPeerX509Certificate();
        for (const certificate of [found, ...(shown === undefined ? [] : [shown])]) {
          assertValidNow(address, certificate);
        }
        resolve(found.toString());
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      } finally {
        end();
      }
    });
  });

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const authorityOf = (socket: TLSSocket, fingerprint: string): X509Certificate | undefined => {
  // The last of a chain is its own issuer; of none at all there is an empty object.
  const seen = new Set<DetailedPeerCertificate>();
  let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (at?.raw !== undefined && !seen.has(at)) {
    seen.add(at);
    if (sha256(at.raw) === fingerprint) return new X509Certificate(at.raw);
    at = at.issuerCertificate;
  }
  return undefined;
};

export interface ClusterRequest {
  /** host:port */
  readonly address: string;
  readonly path: string;
  readonly body: object;
  /** Limit of the whole request, in milliseconds. */
  readonly timeoutMs?: number;
  /** `anybody`: whoever answers, which the certificate is not looked at for. */
  readonly credentials: (Pick<NodeCredentials, 'authorityPem'> & Partial<NodeCredentials>) | 'anybody';
}

/**
 * @returns the body of the answer
 * @throws {ContainerOsError} what the cluster says, with its code; `unavailable` when it does not answer
 */
export const askCluster = <T>({
  address,
  path,
  body,
  credentials,
  timeoutMs = TIMEOUT_MS,
}: ClusterRequest): Promise<T> =>
  new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const { authorityPem, certificatePem, keyPem }: Partial<NodeCredentials> =
      credentials === 'anybody' ? {} : credentials;
    const request = httpsRequest(`https://${address}${path}`, {
      method: 'POST',
      agent: false,
      ...(credentials === 'anybody' ? { rejectUnauthorized: false } : { ca: authorityPem }),
      ...(certificatePem === undefined ? {} : { cert: certificatePem }),
      ...(keyPem === undefined ? {} : { key: keyPem }),
      servername: SERVER_NAME,
      minVersion: 'TLSv1.3',
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
    });
    const timer = setTimeout(() => {
      reject(unreachable(address, `no answer in ${timeoutMs / 1_000} s`));
      request.destroy();
    }, timeoutMs);
    request.on('close', () => clearTimeout(timer));
    request.on('error', (error) => reject(failure(address, error)));
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('error', (error) => reject(failure(address, error)));
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error('its answer has no end'));
        else chunks.push(chunk);
      });
      response.on('end', () => {
        let answer: unknown;
        try {
          answer = JSON.parse(Buffer.concat(chunks).toString('utf8') || 'null');
        } catch (error) {
          return reject(unreachable(address, 'what answers there is no cluster port', error));
        }
        if (response.statusCode === 200) return resolve(answer as T);
        const { code, detail } = (answer ?? {}) as { readonly code?: unknown; readonly detail?: unknown };
        if (isErrorCode(code) && typeof detail === 'string') {
          return reject(new ContainerOsError(code, detail));
        }
        return reject(unreachable(address, `it says ${response.statusCode ?? 0}`));
      });
    });
    request.end(text);
  });

/**
 * Tells whoever answers at an address why this machine does not ask to join, so that it is seen there, too. Resolves also
 * when nobody hears it.
 */
export const tellGivenUp = async (address: string, givenUp: JoinGivenUp['givenUp']): Promise<void> => {
  const body: JoinGivenUp = { givenUp, nowMs: Date.now() };
  await askCluster({
    address,
    path: JOIN_PATH,
    body,
    timeoutMs: GIVE_UP_TIMEOUT_MS,
    credentials: 'anybody',
  }).catch(() => undefined); // it is refused, as it is to be
};
