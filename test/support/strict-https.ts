// HTTPS as a client asks that trusts one root alone and checks the name, on a new connection each time.
import { request } from 'node:https';
import { text as readText } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';

export interface StrictRequest {
  /** Address and port that are dialled. */
  readonly host: string;
  readonly port?: number;
  readonly hostname: string;
  /** PEM of the root, or several. */
  readonly root: string;
}

export interface StrictAnswer {
  readonly text: string;
  /** Of the certificate. */
  readonly serial: string;
}

/** @throws when the certificate is not what such a client takes */
export const askStrictly = ({ host, port = 443, hostname, root }: StrictRequest): Promise<StrictAnswer> =>
  new Promise((resolve, reject) => {
    const sent = request(
      { host, port, ca: root, servername: hostname, headers: { host: hostname }, agent: false },
      (response) => {
        const { serialNumber: serial } = (response.socket as TLSSocket).getPeerCertificate();
        readText(response).then((text) => resolve({ text, serial }), reject);
      },
    );
    sent.on('error', reject);
    sent.end();
  });
