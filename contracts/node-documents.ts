/**
 * How a node publishes through the cluster port: `PUT /internal/v1/nodes/<nodeId>/documents` with a
 * `NodeDocumentsRequest`, written in one transaction and answered with `NodeDocumentsAnswer`, or refused whole.
 *
 * Invariant: a request names each key, and each service, once.
 */

import type { CatalogueService, CheckStatus } from './service-catalogue';

export type NodeDocumentWrite =
  | { readonly kind: 'put'; readonly key: string; readonly document: unknown }
  | { readonly kind: 'remove'; readonly key: string };

export interface NodeService extends CatalogueService {
  readonly checks: readonly NodeServiceCheck[];
}

export interface NodeServiceCheck {
  /** Begins with the id of its service and a colon. */
  readonly id: string;
  readonly name: string;
  readonly status: CheckStatus;
}

/** A service instance on the node that sends it; which node that is stands in its certificate, and nowhere here. */
export type NodeServiceWrite =
  /** With exactly these checks. */
  | { readonly kind: 'putService'; readonly service: NodeService }
  | {
      readonly kind: 'reportCheck';
      readonly serviceId: string;
      readonly checkId: string;
      readonly status: CheckStatus;
      readonly output: string;
    }
  | { readonly kind: 'removeService'; readonly serviceId: string };

export type NodeWrite = NodeDocumentWrite | NodeServiceWrite;

export interface NodeDocumentsRequest {
  /** What the node's clock says, milliseconds since the epoch. Left out by versions that do not tell it yet. */
  readonly sentAtMs?: number;
  readonly writes: readonly NodeWrite[];
}

export interface NodeDocumentsAnswer {
  /** The store's index of the transaction; 0 when there was nothing to change. */
  readonly index: number;
  /** Checks that were reported and services that were removed, and were not there. */
  readonly absent: readonly string[];
  /** How far the node's clock is ahead of the head node's, below zero if behind. Left out when it was not told. */
  readonly clockAheadMs?: number;
}

export const nodeDocumentsPath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/documents`;

export const MAX_NODE_WRITES = 64;
/** Consul takes no more in one transaction. */
export const MAX_NODE_OPERATIONS = 64;
export const MAX_NODE_DOCUMENTS_BYTES = 400_000;
/** More than that of one node in a minute are refused. */
export const MAX_NODE_EVENTS_PER_MINUTE = 600;
/** Of one node, in the catalogue. */
export const MAX_NODE_SERVICES = 2_000;
export const MAX_SERVICE_CHECKS = 16;
export const MAX_CHECK_OUTPUT_CHARACTERS = 4_000;
/** In the document of a node, with this many characters altogether: it has to fit in a request. */
export const MAX_NODE_IMAGES = 4_000;
export const MAX_NODE_IMAGE_CHARACTERS = 200_000;
/** Images of other architectures that a node tells of, and architectures that it tells of each. */
export const MAX_MISSING_BUILDS = 64;
export const MAX_AVAILABLE_BUILDS = 32;
/** A node says that it lives more often than that, or counts as dead. */
export const NODE_SILENCE_MS = 20_000;

/** The operations of a transaction that a write takes. */
export const operationsOf = (write: NodeWrite): number =>
  write.kind === 'putService' ? 2 + write.service.checks.length : 1;

/** What a request may name once. */
export const targetOf = (write: NodeWrite): string => {
  switch (write.kind) {
    case 'put':
    case 'remove':
      return write.key;
    case 'putService':
      return `service ${write.service.id}`;
    case 'reportCheck':
    case 'removeService':
      return `service ${write.serviceId}`;
  }
};
