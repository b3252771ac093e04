/** What joining needs of the cluster's authority; adapters/certificates/authority.ts provides it. */

/**
 * In the certificates of the cluster's servers and in no node's: what servers are known by, whatever name or address
 * they are dialled under. Consul prescribes it, for the data centre that ContainerOS runs.
 */
export const SERVER_NAME = 'server.dc1.consul';

export interface IssuedCertificate {
  readonly certificatePem: string;
  /** In lower-case hex, as `X509Certificate.serialNumber` has it in upper case. */
  readonly serial: string;
  /** SHA-256 of the public key (SubjectPublicKeyInfo), in hex. */
  readonly publicKeyHash: string;
  readonly expiresAtMs: number;
}

export interface SigningRequest {
  /** PKCS #10, PEM. */
  readonly signingRequestPem: string;
  /** The id that the node may have, whatever the request says. */
  readonly nodeId: string;
}

export interface NodeCertificateRequest extends SigningRequest {
  readonly clusterId: string;
  readonly nowMs: number;
}

export interface ServerCertificateRequest {
  /** Names and addresses under which the server is dialled. */
  readonly hosts: readonly string[];
  readonly commonName: string;
  readonly clusterId: string;
  readonly nowMs: number;
}

export interface Authority {
  readonly certificatePem: string;
  /** SHA-256 of the DER of the certificate, in lower-case hex: what join tokens hold. */
  readonly fingerprint: string;
  /** @throws {ContainerOsError} `invalid` when the request is one that no certificate is issued for */
  readSigningRequest(request: SigningRequest): Promise<{ readonly publicKeyHash: string }>;
  /** @throws {ContainerOsError} `invalid` when the request is one that no certificate is issued for */
  issueNodeCertificate(request: NodeCertificateRequest): Promise<IssuedCertificate>;
  issueServerCertificate(
    request: ServerCertificateRequest,
  ): Promise<{ readonly certificatePem: string; readonly keyPem: string }>;
}
