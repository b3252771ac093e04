/** What whoever watches the cluster is told. */

import type { ObservedReplica } from '../domain/model';

export type ClusterChange =
  | { readonly kind: 'replica'; readonly before?: ObservedReplica; readonly after?: ObservedReplica }
  | { readonly kind: 'node'; readonly nodeId: string; readonly isNew: boolean }
  | { readonly kind: 'membership'; readonly nodeId: string; readonly up: boolean };
