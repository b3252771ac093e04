/**
 * Who a client certificate says its holder is.
 *
 * Invariants: only what the cluster's own authority signed counts, for this cluster, for a node id that ContainerOS
 * gives out; a certificate is read once for a connection, but whether it still counts is asked for each request.
 */

import type { TLSSocket } from 'node:tls';

import { REVOKED_WORDS } from '../../contracts/join';
import { ContainerOsError } from '../../domain/errors';
import { isNodeId } from '../../domain/identity';

export interface PeerIdentity {
  readonly nodeId: string;
  /** Of the certificate, in upper-case hexadecimal, as node:crypto has it. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly expiresAtMs: number;
}

/** What a connection showed: an identity, or why it has none, in words. */
export type Peer = { readonly identity: PeerIdentity } | { readonly problem: string };

export interface PeerRules {
  /** The O of this cluster's certificates. */
  readonly clusterId: string;
  isRevoked(nodeId: string, serial: string): boolean;
  nowMs(): number;
}

type TlsView = Pick<
  TLSSocket,
  'authorized' | 'authorizationError' | 'getPeerX509Certificate' | 'getPeerCertificate'
>;

/** @param socket after its handshake with a server that trusts the cluster's authority and nobody else */
export const peerOf = (socket: TlsView, clusterId: string): Peer => {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined)
    return { problem: 'it showed no certificate. A machine gets one by joining' };
  if (!socket.authorized) {
    const why = String(socket.authorizationError);
    return { problem: `its certificate is not one that this cluster accepts (${why})` };
  }
  // Types say text, but a subject may have a field twice.
  const subject = socket.getPeerCertificate().subject as Readonly<Record<string, unknown>>;
  const { CN: nodeId, O: organisation } = subject;
  if (organisation !== clusterId) return { problem: 'its certificate is one of another cluster' };
  if (certificate.ca || typeof nodeId !== 'string' || !isNodeId(nodeId)) {
    return { problem: 'its certificate is not one of a node' };
  }
  return {
    identity: { nodeId, serial: certificate.serialNumber, expiresAtMs: Date.parse(certificate.validTo) },
  };
};

/** Why an identity does not count any more; undefined while it does. */
export const lapse = (
  { nodeId, serial, expiresAtMs }: PeerIdentity,
  rules: PeerRules,
): string | undefined => {
  if (rules.isRevoked(nodeId, serial)) return `the certificate of the node ${nodeId} ${REVOKED_WORDS}`;
  if (rules.nowMs() >= expiresAtMs) return `the certificate of the node ${nodeId} has expired`;
  return undefined;
};

/**
 * @returns the identity, while it counts
 * @throws {ContainerOsError} `forbidden`
 */
export const assertPeer = (peer: Peer, rules: PeerRules): PeerIdentity => {
  const problem = 'problem' in peer ? peer.problem : lapse(peer.identity, rules);
  if (problem !== undefined || 'problem' in peer) {
    throw new ContainerOsError('forbidden', `This connection may not do this: ${problem ?? ''}.`);
  }
  return peer.identity;
};
