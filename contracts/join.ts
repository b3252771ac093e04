/**
 * How a machine becomes a node, is one, and ceases to be one, at the cluster port.
 *
 * `POST /v1/join` needs no certificate: the request shows a join token, or says why there is none (JoinGivenUp). The rest is under the certificate of the node:
 * a new certificate in time (`POST /internal/v1/nodes/<nodeId>/certificate`), the key that certificates of hostnames are
 * sealed with (`POST /internal/v1/nodes/<nodeId>/cluster-key`), and leaving (`POST /internal/v1/nodes/<nodeId>/leave`).
 */

export const JOIN_PATH = '/v1/join';

export interface JoinRequest {
  readonly tokenId: string;
  readonly secret: string;
  readonly nodeId: string;
  /** PKCS #10, PEM, with the subject CN=<nodeId>. */
  readonly signingRequestPem: string;
  /** What the node's clock says, milliseconds since the epoch. */
  readonly nowMs: number;
  readonly dockerVersion: string;
  readonly architecture: string;
  readonly containerosVersion: string;
}

/**
 * Why a machine does not ask to join: its token is none, its token is of another cluster than the one that answers, or by
 * its clock the cluster's certificate does not count.
 */
export const GIVEN_UP_REASONS = ['token', 'cluster', 'clock'] as const;

/** In place of a JoinRequest: nothing of the token is in it, as whoever answers may be anybody. */
export interface JoinGivenUp {
  readonly givenUp: (typeof GIVEN_UP_REASONS)[number];
  /** What the machine's clock says, milliseconds since the epoch. */
  readonly nowMs: number;
}

/** How a node's Consul agent becomes a member. */
export interface ConsulMembership {
  /** Base64 of 32 bytes. */
  readonly gossipKey: string;
  /** Gossip address of the server, as host:port. */
  readonly serverAddress: string;
  /** ACL token of the node. */
  readonly token: string;
}

export interface JoinAnswer {
  readonly certificatePem: string;
  readonly authorityPem: string;
  readonly clusterId: string;
  readonly temporalNamespace: string;
  readonly consul: ConsulMembership;
  /** As of ClusterKeyAnswer; a cluster of an earlier version does not give it. */
  readonly clusterKey?: string;
}

export const nodeCertificatePath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/certificate`;

export interface CertificateRequest {
  readonly signingRequestPem: string;
}

export interface CertificateAnswer {
  readonly certificatePem: string;
  readonly authorityPem: string;
}

export const nodeClusterKeyPath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/cluster-key`;

export interface ClusterKeyAnswer {
  /** Base64 of 32 bytes: what private keys of hostnames are sealed with in Consul. */
  readonly clusterKey: string;
}

export const nodeLeavePath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/leave`;

export interface LeaveRequest {
  /** Leave at once, whatever runs there. */
  readonly force: boolean;
}

export interface LeaveAnswer {
  /** The node is removed: its certificate does not count any more. */
  readonly hasLeft: boolean;
  /** How many replicas have to go elsewhere first, and of which microservices. */
  readonly replicas: number;
  readonly microservices: readonly string[];
  /** What else there is to wait for, and what stands in the way, a line each. Left out when there is nothing. */
  readonly troubles?: readonly string[];
}

/** In the words of the cluster port to a node that it does not know, or not any more; those of other refusals lack it. */
export const REVOKED_WORDS = 'was revoked';
