/**
 * What the cluster port needs of Consul's catalogue: the services of any node, and transactions that write services,
 * checks and documents together.
 *
 * Invariant: what is written here no agent runs or refreshes; a check has the state that was written last.
 */

import type { KvOperation, TransactionResult } from './key-value-store';

export type CheckStatus = 'passing' | 'warning' | 'critical';

export interface CatalogueCheck {
  readonly id: string;
  readonly node: string;
  readonly serviceId: string;
  readonly serviceName: string;
  readonly name: string;
  readonly status: CheckStatus;
  readonly output: string;
  /** For people, and for who wrote it to know it again. */
  readonly notes: string;
  /** The catalogue's index of its last change. */
  readonly index: number;
}

export interface CatalogueService {
  readonly id: string;
  readonly name: string;
  readonly tags: readonly string[];
  readonly meta: Readonly<Record<string, string>>;
  readonly address: string;
  readonly port: number;
}

export type CatalogueOperation =
  /** Replaces a service of this id, whatever it was, and its checks by these. */
  | {
      readonly kind: 'putService';
      readonly node: string;
      readonly service: CatalogueService;
      readonly checks: readonly Pick<CatalogueCheck, 'id' | 'name' | 'status' | 'output' | 'notes'>[];
    }
  /** Only when the node has none of this id. */
  | {
      readonly kind: 'createService';
      readonly node: string;
      readonly service: CatalogueService;
      readonly checks: readonly Pick<CatalogueCheck, 'id' | 'name' | 'status' | 'output' | 'notes'>[];
    }
  /** And its checks; nothing happens when there is none. */
  | {
      readonly kind: 'removeService';
      readonly node: string;
      readonly serviceId: string;
      readonly serviceName: string;
    }
  /** Only when the check is there and has this index still. */
  | { readonly kind: 'replaceCheck'; readonly check: CatalogueCheck };

export interface ServiceCatalogue {
  /**
   * @param ids of the services that are asked for; all when left out
   * @returns undefined when the catalogue has no such node
   */
  services(
    node: string,
    ids?: readonly string[],
  ): Promise<readonly Pick<CatalogueService, 'id' | 'name' | 'meta'>[] | undefined>;
  /** @param serviceIds all of the node, and its own, when left out */
  checksOfNode(node: string, serviceIds?: readonly string[]): Promise<readonly CatalogueCheck[]>;
  /** Of all instances of it, on whatever node. */
  checksOfService(serviceName: string): Promise<readonly CatalogueCheck[]>;
  /**
   * All or nothing; at most 64 operations, of which putting a service takes two and one for each check, and creating one
   * takes one less. A service of a node that the catalogue does not have is a conflict. A conflict of an operation without
   * a key has the key ''.
   */
  transact(operations: readonly (KvOperation | CatalogueOperation)[]): Promise<TransactionResult>;
}
