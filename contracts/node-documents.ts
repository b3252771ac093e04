/**
 * How a node publishes through the cluster port: `PUT /internal/v1/nodes/<nodeId>/documents` with a
 * `NodeDocumentsRequest`, written in one transaction and answered with `NodeDocumentsAnswer`, or refused whole.
 */

export type NodeDocumentWrite =
  | { readonly kind: 'put'; readonly key: string; readonly document: unknown }
  | { readonly kind: 'remove'; readonly key: string };

export interface NodeDocumentsRequest {
  readonly writes: readonly NodeDocumentWrite[];
}

export interface NodeDocumentsAnswer {
  /** The store's index of the transaction. */
  readonly index: number;
}

export const nodeDocumentsPath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/documents`;

export const MAX_NODE_WRITES = 64;
export const MAX_NODE_DOCUMENTS_BYTES = 400_000;
/** More than that of one node in a minute are refused. */
export const MAX_NODE_EVENTS_PER_MINUTE = 600;
