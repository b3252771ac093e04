/**
 * Who may be a node: join tokens and identities, as they stand in Consul KV.
 *
 * Invariants: neither holds a secret; an identity without `revokedAtMs` is live, and there is one for each node id.
 */

export interface JoinToken {
  readonly id: string;
  /**
   * SHA-256 of the secret, in hex. The secret has 192 bits of chance, so that nobody can guess it from its hash: what
   * makes passwords need a slow hash does not hold for it.
   */
  readonly secretHash: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly usesLeft: number;
  readonly revokedAtMs?: number;
  /** Ids of the nodes that joined with it. */
  readonly usedBy: readonly string[];
}

export interface NodeIdentity {
  readonly nodeId: string;
  /** Of the newest certificate, in lower-case hex. */
  readonly serial: string;
  /** Of the certificate before, which the node goes on with when the answer that held the newest one was lost. */
  readonly previousSerial?: string;
  /** SHA-256 of the public key (SubjectPublicKeyInfo), in hex: who joins again with it is the same machine. */
  readonly publicKeyHash: string;
  /** Id of the join token that let the node in. */
  readonly joinedWith: string;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  readonly revokedAtMs?: number;
}

/** Of a DNS label. */
const MAX_NODE_ID_LENGTH = 63;

/** Whether the text can be the id of a node: a DNS label in lower case, because it is a host name and a part of keys. */
export const isNodeId = (text: string): boolean => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text);

/**
 * The id that a machine gets by its host name: the first label of it, with `-` for what cannot be in an id.
 *
 * @returns '' when nothing of it can
 */
export const nodeIdFromHostname = (hostname: string): string => {
  const [label = ''] = hostname.toLowerCase().split('.');
  return label
    .replace(/[^a-z0-9]/g, '-')
    .replace(/^-+/, '')
    .slice(0, MAX_NODE_ID_LENGTH)
    .replace(/-+$/, '');
};

/** Whether a certificate is one that its node may still show: the newest, or the one that it was renewed with. */
export const isCurrentCertificate = (identity: NodeIdentity, serial: string): boolean =>
  identity.revokedAtMs === undefined && (identity.serial === serial || identity.previousSerial === serial);

/** Whether the identity holds its name: neither revoked nor run out. */
export const isLive = (identity: NodeIdentity, nowMs: number): boolean =>
  identity.revokedAtMs === undefined && nowMs < identity.expiresAtMs;
