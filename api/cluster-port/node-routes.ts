/**
 * What nodes use over HTTP at the cluster port (streams, documents, leases, certificates and the key of hostnames' ones, coordinates, leaving), each
 * under the identity of the certificate.
 *
 * Invariant: a path that names a node is for that node alone, and a stream is taken only from the node that was asked.
 */

import type { ServerResponse } from 'node:http';

import type { Logger } from 'pino';
import { z } from 'zod';

import {
  MAX_NODE_DOCUMENTS_BYTES,
  nodeDocumentsPath,
  type NodeDocumentsAnswer,
} from '../../contracts/node-documents';
import { nodeCoordinatePath, type CoordinateAnswer, type CoordinateReport } from '../../contracts/gossip';
import {
  nodeCertificatePath,
  nodeClusterKeyPath,
  nodeLeavePath,
  type CertificateAnswer,
  type ClusterKeyAnswer,
  type LeaveAnswer,
  type LeaveRequest,
} from '../../contracts/join';
import { MAX_LEASES_BYTES, nodeLeasesPath } from '../../contracts/leases';
import { NODE_STREAM_KEEPALIVE_MS, nodeRequestsPath } from '../../contracts/node-stream';
import { ContainerOsError, isErrorCode } from '../../domain/errors';
import { parseJsonText } from '../json-text';
import type { Identities } from '../join/identities';
import type { NodeStreams } from '../node-streams';

import { answerJson, bodyStreamOf, readPortBody } from './answers';
import type { PortRequest, PortResponse } from './cluster-port';
import type { NodeDocuments } from './node-documents';
import type { NodeLeases } from './node-leases';
import type { PeerIdentity } from './peer-identity';
import type { Refusals } from './refusals';

export interface NodeRoutesDeps {
  readonly nodeStreams: NodeStreams;
  readonly documents: NodeDocuments;
  readonly leases: NodeLeases;
  readonly identities: Pick<Identities, 'renewCertificate'>;
  /** Of ClusterKeyAnswer. */
  readonly clusterKey: () => string;
  readonly leave: (node: PeerIdentity, request: LeaveRequest) => Promise<LeaveAnswer>;
  readonly takeCoordinate: (nodeId: string, report: CoordinateReport) => Promise<CoordinateAnswer>;
  /** What `identities` has given out counts once this has resolved. */
  readonly refreshIdentities: () => Promise<void>;
  readonly refusals: Refusals;
  readonly log: Logger;
}

export type NodeRoutes = (
  identity: PeerIdentity,
  request: PortRequest,
  response: PortResponse,
) => Promise<void>;

/** Of requests that a node does not read; then it is cut, and connects again if it lives. */
const MAX_UNREAD_BYTES = 262_144;
const PATH =
  /^\/internal\/v1\/(?:nodes\/([^/]+)\/(requests|documents|certificate|cluster-key|leases|leave|coordinate)|streams\/([^/]+))$/;
const MAX_REQUEST_BYTES = 16_384;
const certificateRequest = z.strictObject({ signingRequestPem: z.string() });
/** Consul's space has eight dimensions. */
const DIMENSIONS = 8;
/** Farther than anything on the earth: what says more says nothing. */
const MAX_SECONDS = 60;
const seconds = z.number().min(-MAX_SECONDS).max(MAX_SECONDS);
const coordinateReport = z.strictObject({
  coordinate: z
    .object({
      Vec: z.array(seconds).length(DIMENSIONS),
      Height: seconds.min(0),
      Adjustment: seconds,
      Error: seconds.min(0),
    })
    .optional(),
});
const leaveRequest = z.strictObject({ force: z.boolean() });

const decodeUtf8 = (bytes: Buffer): string => {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new ContainerOsError('invalid', 'The body is not valid UTF-8.', [], { cause: error });
  }
};

/** @returns answers one request; rejects with ContainerOsError when it is refused */
export const createNodeRoutes = (deps: NodeRoutesDeps): NodeRoutes => {
  const { nodeStreams, documents, refusals, log } = deps;
  const takeRequests = (nodeId: string, response: PortResponse): Promise<void> =>
    new Promise((resolve) => {
      // One signature for each version of HTTP, and the same meaning.
      const answer = response as ServerResponse;
      answer.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
      const send = (line: string): boolean => {
        if (answer.destroyed || answer.writableEnded) return false;
        if (answer.writableLength > MAX_UNREAD_BYTES) answer.destroy();
        answer.write(line);
        return true;
      };
      const disconnected = nodeStreams.connected(nodeId, { send, close: () => answer.end() });
      log.info({ node: nodeId }, 'a node has opened its stream');
      const timer = setInterval(() => send('\n'), NODE_STREAM_KEEPALIVE_MS);
      // The first line tells the node at once that it was let in.
      send('\n');
      answer.once('close', () => {
        clearInterval(timer);
        disconnected();
        log.info({ node: nodeId }, 'the stream of a node has ended');
        resolve();
      });
    });

  const takeStream = async (
    nodeId: string,
    requestId: string,
    request: PortRequest,
    response: PortResponse,
  ): Promise<void> => {
    const query = new URL(request.url ?? '', 'https://cluster-port').searchParams;
    const code = query.get('error');
    const beginReply = () => {
      const answer = response as ServerResponse;
      answer.writeHead(200, { 'content-type': 'application/octet-stream', 'cache-control': 'no-store' });
      answer.flushHeaders();
      return answer;
    };
    if (code === null) return nodeStreams.answer(requestId, bodyStreamOf(request), nodeId, beginReply);
    const words = query.get('message') ?? 'The node could not answer.';
    nodeStreams.refuse(
      requestId,
      new ContainerOsError(isErrorCode(code) ? code : 'unavailable', words.slice(0, 2_000)),
      nodeId,
    );
  };

  const takeDocuments = async (nodeId: string, request: PortRequest): Promise<NodeDocumentsAnswer> => {
    const body = await readPortBody(request, MAX_NODE_DOCUMENTS_BYTES);
    return documents.write(nodeId, parseJsonText(decodeUtf8(body)));
  };

  const readAs = async <T>(request: PortRequest, schema: z.ZodType<T>): Promise<T> => {
    const parsed = schema.safeParse(
      parseJsonText(decodeUtf8(await readPortBody(request, MAX_REQUEST_BYTES))),
    );
    if (parsed.success) return parsed.data;
    const problems = parsed.error.issues.map(({ path, message }) => `/${path.join('/')} ${message}`);
    throw new ContainerOsError('invalid', `The body is not what this path takes: ${problems.join('; ')}.`);
  };

  const renewCertificate = async (shown: PeerIdentity, request: PortRequest): Promise<CertificateAnswer> => {
    const { signingRequestPem } = await readAs(request, certificateRequest);
    const identity = { nodeId: shown.nodeId, serial: shown.serial.toLowerCase() };
    const renewed = await deps.identities.renewCertificate(identity, signingRequestPem);
    await deps.refreshIdentities();
    return renewed;
  };

  const only = (request: PortRequest, method: string): void => {
    if (request.method === method) return;
    throw new ContainerOsError('method_not_allowed', `This path takes ${method} only.`);
  };

  const route = async (
    identity: PeerIdentity,
    request: PortRequest,
    response: PortResponse,
  ): Promise<void> => {
    const { nodeId } = identity;
    const [, ofNode, what, requestId] = PATH.exec((request.url ?? '').split('?')[0] ?? '') ?? [];
    if (ofNode !== undefined && ofNode !== nodeId) {
      throw new ContainerOsError('forbidden', `The node ${nodeId} may not act for another one.`);
    }
    if (what === 'requests') {
      only(request, 'GET');
      await takeRequests(nodeId, response);
    } else if (what === 'documents') {
      only(request, 'PUT');
      answerJson(response, 200, await takeDocuments(nodeId, request));
    } else if (what === 'leases') {
      only(request, 'POST');
      const body = decodeUtf8(await readPortBody(request, MAX_LEASES_BYTES));
      answerJson(response, 200, await deps.leases.ask(nodeId, parseJsonText(body)));
    } else if (what === 'certificate') {
      only(request, 'POST');
      answerJson(response, 200, await renewCertificate(identity, request));
    } else if (what === 'cluster-key') {
      only(request, 'POST');
      request.resume();
      const answer: ClusterKeyAnswer = { clusterKey: deps.clusterKey() };
      answerJson(response, 200, answer);
    } else if (what === 'leave') {
      only(request, 'POST');
      answerJson(response, 200, await deps.leave(identity, await readAs(request, leaveRequest)));
    } else if (what === 'coordinate') {
      only(request, 'POST');
      answerJson(response, 200, await deps.takeCoordinate(nodeId, await readAs(request, coordinateReport)));
    } else if (requestId !== undefined) {
      only(request, 'POST');
      await takeStream(nodeId, requestId, request, response);
      if (!response.headersSent && !response.destroyed) (response as ServerResponse).writeHead(204).end();
    } else {
      const paths = [
        nodeRequestsPath,
        nodeDocumentsPath,
        nodeLeasesPath,
        nodeCertificatePath,
        nodeClusterKeyPath,
        nodeLeavePath,
        nodeCoordinatePath,
      ]
        .map((path) => path(nodeId))
        .join(', ');
      throw new ContainerOsError(
        'not_found',
        `There is no such path at the cluster port; there are ${paths}.`,
      );
    }
  };

  return async (identity, request, response) => {
    const { nodeId } = identity;
    try {
      await route(identity, request, response);
    } catch (error) {
      const isRefusal =
        error instanceof ContainerOsError &&
        ['invalid', 'forbidden', 'too_large', 'rate_limited'].includes(error.code);
      if (isRefusal) refusals.tell(nodeId, error.message);
      throw error;
    }
  };
};
