/** What whoever watches the cluster is told; adapters/consul provides it. */

import type { NodeAvailability, ObservedReplica } from '../domain/model';

export type ClusterChange =
  | { readonly kind: 'replica'; readonly before?: ObservedReplica; readonly after?: ObservedReplica }
  | {
      readonly kind: 'node';
      readonly nodeId: string;
      readonly isNew: boolean;
      /** Whether constraints may hold now that did not, or the other way round. */
      readonly isRelabelled?: boolean;
      /** Its Docker Engine has not answered for long, or answers again. */
      readonly engine?: 'lost' | 'back';
    }
  | { readonly kind: 'availability'; readonly nodeId: string; readonly availability: NodeAvailability }
  | { readonly kind: 'membership'; readonly nodeId: string; readonly up: boolean };

export interface MembersHandlers {
  /** All nodes that the membership knows, and whether it holds each for alive. */
  changed(members: ReadonlyMap<string, boolean>): void;
  /** The membership cannot be read; told once for each failed attempt. */
  unreachable(error: unknown): void;
}

export interface MembersWatch {
  close(): void;
}
