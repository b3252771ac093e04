/**
 * Leases through the cluster port, where the session is that of the node of the certificate.
 *
 * Invariants: as of contracts/leases; how long a lease lasts counts from before the question was sent, so that the
 * way to the port and back takes from it and never adds; whatever goes wrong is `unavailable`, unless the port has
 * a code and words for it.
 */

import { Agent, request as httpsRequest } from 'node:https';

import { z } from 'zod';

import {
  nodeLeasesPath,
  type LeaseGrant,
  type LeaseQuestion,
  type LeaseRenewal,
  type Leases,
} from '../../contracts/leases';
import { ContainerOsError, isErrorCode } from '../../domain/errors';

import type { ClusterPortWriterOptions } from './documents';

/** Of one question: the port asks Consul several times for some, and one has to fit before a lease runs out. */
const TIMEOUT_MS = 4_000;
const MAX_ANSWER_BYTES = 400_000;

const lease = z.object({ project: z.string(), name: z.string(), replicaId: z.string() });
const holder = lease.extend({ nodeId: z.string() });
const grant = z.union([
  z.object({ kind: z.literal('held'), lastsMs: z.number() }),
  z.object({ kind: z.literal('taken'), forAtMostMs: z.number(), holder: holder.optional() }),
]);
const renewal = z.object({ lastsMs: z.number(), lost: z.array(z.string()) });

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const problemOf = (body: unknown): ContainerOsError | undefined => {
  const { code, detail } = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  return isErrorCode(code) && typeof detail === 'string' ? new ContainerOsError(code, detail) : undefined;
};

export const createClusterPortLeases = (options: ClusterPortWriterOptions): Leases => {
  const url = new URL(nodeLeasesPath(options.nodeId), options.url);
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const agent = new Agent({ keepAlive: true });
  const away = (why: string, cause?: unknown) =>
    new ContainerOsError('unavailable', `The cluster port at ${url.host} gives no leases: ${why}.`, [], {
      cause,
    });

  const send = (body: string, isRepeated: boolean): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const { certificatePem, keyPem, authorityPem } = options.credentials();
      const request = httpsRequest(url, {
        method: 'POST',
        agent,
        cert: certificatePem,
        key: keyPem,
        ca: authorityPem,
        minVersion: 'TLSv1.3',
        ...(options.serverName === undefined ? {} : { servername: options.serverName }),
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      });
      const timer = setTimeout(() => request.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(error instanceof ContainerOsError ? error : away(error.message, error));
      };
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The server ended the connection while it was idle; every question may be asked twice.
        if (error.code !== 'ECONNRESET' || !request.reusedSocket || isRepeated) return fail(error);
        clearTimeout(timer);
        return resolve(send(body, true));
      });
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > MAX_ANSWER_BYTES) response.destroy(new Error('its answer has no end'));
        });
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          const answer = parse(text);
          if (response.statusCode === 200) resolve(answer);
          else reject(problemOf(answer) ?? away(`it says ${response.statusCode ?? 0}`));
        });
      });
      request.end(body);
    });

  const ask = async <T>(question: LeaseQuestion, schema: z.ZodType<T>): Promise<T> => {
    const answer = schema.safeParse(await send(JSON.stringify(question), false));
    if (answer.success) return answer.data;
    throw away('its answer is not understood. It may be of another version');
  };

  return {
    // Optional fields may be undefined for zod, and are only ever left out.
    acquire: ({ project, name, replicaId }) =>
      ask({ kind: 'acquire', lease: { project, name, replicaId } }, grant) as Promise<LeaseGrant>,
    renew: (leases) => ask<LeaseRenewal>({ kind: 'renew', leases }, renewal),
    held: async () => (await ask({ kind: 'held' }, z.object({ leases: z.array(lease) }))).leases,
    release: async ({ project, name, replicaId }) => {
      await ask({ kind: 'release', lease: { project, name, replicaId } }, z.object({}));
    },
    close: () => agent.destroy(),
  };
};
