/**
 * Seals Temporal's task tokens for the node that is given them, so that one node cannot answer for another.
 *
 * Invariants: a sealed token is a version byte, 16 bytes of HMAC-SHA-256 over version, node id and token, and the
 * token; the key comes from the installation's internal token, so that tokens outlive restarts; comparison takes
 * constant time. Nothing is kept: any API process of the installation opens what another one sealed.
 */

import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

const VERSION = 1;
const SEAL_BYTES = 16;
const HEAD_BYTES = 1 + SEAL_BYTES;

export interface TaskTokens {
  seal(nodeId: string, token: Uint8Array): Buffer;
  /** @returns the token; undefined when it was not sealed for this node, or is no sealed token */
  open(nodeId: string, sealed: Uint8Array): Buffer | undefined;
}

/** @param internalToken the secret that the installation's own programs share */
export const createTaskTokens = (internalToken: string): TaskTokens => {
  const key = Buffer.from(hkdfSync('sha256', internalToken, '', 'containeros task tokens 1', 32));

  const sealOf = (nodeId: string, token: Uint8Array): Buffer => {
    const id = Buffer.from(nodeId);
    // The length keeps an id and a token from passing for a longer id and a shorter token.
    const head = Buffer.alloc(5);
    head.writeUInt8(VERSION);
    head.writeUInt32BE(id.length, 1);
    return createHmac('sha256', key).update(head).update(id).update(token).digest().subarray(0, SEAL_BYTES);
  };

  return {
    seal: (nodeId, token) => Buffer.concat([Buffer.of(VERSION), sealOf(nodeId, token), token]),
    open: (nodeId, sealed) => {
      if (sealed.length <= HEAD_BYTES || sealed[0] !== VERSION) return undefined;
      const token = Buffer.from(sealed.subarray(HEAD_BYTES));
      return timingSafeEqual(sealed.subarray(1, HEAD_BYTES), sealOf(nodeId, token)) ? token : undefined;
    },
  };
};
