/**
 * The cluster's own authority for private hostnames, as it stands in Consul KV (`containeros/authorities/hostnames`).
 *
 * Invariants: nodes cannot read it, and its key stands there only sealed; it is another one than the authority of nodes,
 * so that a browser that trusts it trusts no node, and no node trusts what it signs.
 */

export const HOSTNAME_AUTHORITY = 'hostnames';

export interface HostnameAuthority {
  readonly name: string;
  /** The root, which people have their machines trust. */
  readonly certificatePem: string;
  /** PKCS #8 in PEM, sealed for `authority NAME`. */
  readonly sealedKey: string;
  readonly createdAtMs: number;
}

export interface AuthorityMaterial {
  readonly certificatePem: string;
  readonly keyPem: string;
}
