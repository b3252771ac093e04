/** Certificates of hostnames, and the authority that private ones are of. */

import { X509Certificate } from 'node:crypto';

import type { Certificate } from '../../contracts/certificates';
import { ContainerOsError } from '../../domain/errors';
import { authorityFor } from '../../domain/ingress/authority-for';
import { describeValidity } from '../../domain/ingress/certificate-words';
import { isPlainHostname } from '../../domain/ingress/served-certificates';
import { emptyQuery } from '../../openapi/parameters';
import { certificateRequestSchema, type AuthorityView, type CertificateView } from '../../openapi/schemas';
import type { RouteDeps } from '../api-deps';
import { parsedBodyOf, pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';

const timeOf = (atMs: number): string => new Date(atMs).toISOString();

/** Field by field, so that what is sealed stays where it is. */
const certificateView = (certificate: Certificate, nowMs: number): CertificateView => ({
  hostname: certificate.hostname,
  hostnames: [...certificate.hostnames],
  source: certificate.source,
  issuer: certificate.issuer,
  ...(certificate.directory === undefined ? {} : { directory: certificate.directory }),
  validFrom: timeOf(certificate.notBeforeMs),
  validUntil: timeOf(certificate.notAfterMs),
  fingerprint: certificate.fingerprint,
  ...describeValidity(certificate, nowMs),
  updatedAt: timeOf(certificate.updatedAtMs),
});

const hostnameOf = (exchange: Exchange): string => {
  const hostname = pathParameter(exchange, 'hostname').toLowerCase();
  if (isPlainHostname(hostname.replace(/^\*\./, ''))) return hostname;
  throw new ContainerOsError(
    'invalid',
    `"${hostname}" is no hostname. Give one like www.example.com, or a wildcard like *.example.com.`,
  );
};

export const certificateRoutes = (deps: RouteDeps): readonly Route[] => {
  const { nowMs } = deps;

  const find = async (hostname: string): Promise<Certificate> => {
    const found = (await deps.certificates.store.list()).find((one) => one.hostname === hostname);
    if (found !== undefined) return found;
    throw new ContainerOsError(
      'not_found',
      `There is no certificate for ${hostname}. GET /v1/certificates lists those that there are.`,
    );
  };

  const list = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const items = [...(await deps.certificates.store.list())]
      .sort((a, b) => (a.hostname < b.hostname ? -1 : 1))
      .map((one) => certificateView(one, nowMs()));
    sendJson(exchange, 200, { value: { items } });
  };

  const show = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    sendJson(exchange, 200, { value: certificateView(await find(hostnameOf(exchange)), nowMs()) });
  };

  const upload = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const hostname = hostnameOf(exchange);
    const { value } = await parsedBodyOf(exchange, certificateRequestSchema);
    const { check, store } = deps.certificates;
    const material = check({ hostname, ...value, nowMs: nowMs() });
    const written = await store.write({ hostname, source: 'uploaded', ...material });
    deps.log.info({ hostname, fingerprint: written.fingerprint }, 'a certificate was uploaded');
    sendJson(exchange, 200, { value: certificateView(written, nowMs()) });
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const { hostname } = await find(hostnameOf(exchange));
    await deps.certificates.store.remove(hostname);
    deps.log.info({ hostname, authority: authorityFor(hostname) }, 'a certificate was removed');
    exchange.res.writeHead(204).end();
  };

  const authority = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const certificatePem = await deps.certificates.rootPem();
    if (certificatePem === undefined) {
      throw new ContainerOsError(
        'unavailable',
        'The authority for private hostnames is not made yet: the control plane does that when it starts. Try again in a moment, and see GET /readyz.',
      );
    }
    const root = new X509Certificate(certificatePem);
    const value: AuthorityView = {
      certificate: certificatePem,
      fingerprint: root.fingerprint256.replaceAll(':', '').toLowerCase(),
      subject: root.subject.replaceAll('\n', ', '),
      validUntil: timeOf(Date.parse(root.validTo)),
    };
    sendJson(exchange, 200, { value });
  };

  return [
    { method: 'GET', path: '/v1/authority', access: 'password', handle: authority },
    { method: 'GET', path: '/v1/certificates', access: 'password', handle: list },
    { method: 'GET', path: '/v1/certificates/{hostname}', access: 'password', handle: show },
    { method: 'PUT', path: '/v1/certificates/{hostname}', access: 'password', handle: upload },
    { method: 'DELETE', path: '/v1/certificates/{hostname}', access: 'password', handle: remove },
  ];
};
