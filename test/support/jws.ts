// What whoever has a certificate's key sends to an ACME server to have it revoked (RFC 8555, 7.6).
import { createPrivateKey, createPublicKey, sign, X509Certificate } from 'node:crypto';

export interface Revocation {
  readonly certificatePem: string;
  /** Of the certificate: ECDSA P-256. */
  readonly keyPem: string;
  readonly nonce: string;
  /** Where it is sent. */
  readonly url: string;
}

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

export const revocationOf = ({ certificatePem, keyPem, nonce, url }: Revocation): string => {
  const key = createPrivateKey(keyPem);
  const jwk = createPublicKey(key).export({ format: 'jwk' });
  const header = encoded({ alg: 'ES256', jwk, nonce, url });
  const payload = encoded({ certificate: new X509Certificate(certificatePem).raw.toString('base64url') });
  const signature = sign('sha256', Buffer.from(`${header}.${payload}`), { key, dsaEncoding: 'ieee-p1363' });
  return JSON.stringify({ protected: header, payload, signature: signature.toString('base64url') });
};
