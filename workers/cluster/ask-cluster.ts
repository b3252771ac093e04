/**
 * One JSON request to the cluster port, from a machine that is a node or is to become one.
 *
 * Invariant: nothing is sent before the server has shown a certificate of the authority that is expected.
 */

import { X509Certificate, createHash } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';

import type { NodeCredentials } from '../../adapters/cluster-port/documents';
import { SERVER_NAME } from '../../contracts/authority';
import { ContainerOsError, isErrorCode } from '../../domain/errors';

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 256_000;

const unreachable = (address: string, why: string, cause?: unknown) =>
  new ContainerOsError(
    'unavailable',
    `The cluster at ${address} cannot be reached: ${why}. See that ContainerOS runs there, that the address is that of its cluster port, and that no firewall is in between.`,
    [],
    { cause },
  );

const hostOf = (address: string): string => new URL(`https://${address}`).hostname.replace(/^\[|\]$/g, '');
const portOf = (address: string): number => Number(new URL(`https://${address}`).port || 443);

/**
 * Looks which authority a server's certificate ends in, and compares.
 *
 * @param address host:port
 * @param fingerprint SHA-256 of the authority's certificate, in hex, as a join token has it
 * @returns PEM of that authority, which the request itself is then made with
 * @throws {ContainerOsError} `forbidden` when it is another one; `unavailable` when nobody answers
 */
export const fetchAuthority = (address: string, fingerprint: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket: TLSSocket = connect({
      host: hostOf(address),
      port: portOf(address),
      // What is shown is looked at here, and the request itself is made with this authority alone.
      rejectUnauthorized: false,
      servername: SERVER_NAME,
      minVersion: 'TLSv1.3',
      timeout: TIMEOUT_MS,
    });
    const fail = (why: string, cause?: unknown) => {
      socket.destroy();
      reject(unreachable(address, why, cause));
    };
    socket.once('timeout', () => fail(`no answer in ${TIMEOUT_MS / 1_000} s`));
    socket.once('error', (error: Error) => fail(error.message, error));
    socket.once('secureConnect', () => {
      const found = authorityOf(socket, fingerprint);
      socket.destroy();
      if (found !== undefined) resolve(found);
      else {
        reject(
          new ContainerOsError(
            'forbidden',
            `The cluster at ${address} is not the one that the join token is for: its certificate is of another authority. Check the address; if it is right, somebody else answers there.`,
          ),
        );
      }
    });
  });

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const authorityOf = (socket: TLSSocket, fingerprint: string): string | undefined => {
  // The last of a chain is its own issuer; of none at all there is an empty object.
  const seen = new Set<DetailedPeerCertificate>();
  let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (at?.raw !== undefined && !seen.has(at)) {
    seen.add(at);
    if (sha256(at.raw) === fingerprint) return new X509Certificate(at.raw).toString();
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
  readonly credentials: Pick<NodeCredentials, 'authorityPem'> & Partial<NodeCredentials>;
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
    const { authorityPem, certificatePem, keyPem } = credentials;
    const request = httpsRequest(`https://${address}${path}`, {
      method: 'POST',
      agent: false,
      ca: authorityPem,
      ...(certificatePem === undefined ? {} : { cert: certificatePem }),
      ...(keyPem === undefined ? {} : { key: keyPem }),
      servername: SERVER_NAME,
      minVersion: 'TLSv1.3',
      timeout: timeoutMs,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
    });
    request.on('timeout', () => request.destroy(new Error(`no answer in ${timeoutMs / 1_000} s`)));
    request.on('error', (error) => reject(unreachable(address, error.message, error)));
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('error', (error) => reject(unreachable(address, error.message, error)));
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
