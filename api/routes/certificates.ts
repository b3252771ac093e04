/** Certificates of hostnames, and the authority that private ones are of. */

import { X509Certificate } from 'node:crypto';

import type { CertificateStatus } from '../../contracts/acme';
import { knownOwnerOf } from '../../contracts/hostname-owners';
import { KV_PREFIX } from '../../contracts/kv';
import { isHostnameClaim } from '../../domain/ingress/public-ports';
import { reliedOn } from '../../domain/certificates/relied-on';
import { ContainerOsError } from '../../domain/errors';
import { authorityFor } from '../../domain/ingress/authority-for';
import { isPlainHostname } from '../../domain/ingress/served-certificates';
import { withoutWildcard } from '../../domain/ingress/wildcard';
import { whyNoHostname } from '../../domain/spec/hostname';
import { emptyQuery } from '../../openapi/parameters';
import {
  certificateRequestSchema,
  emptyRequestSchema,
  type AuthorityView,
  type CertificateView,
} from '../../openapi/schemas';
import type { RouteDeps } from '../api-deps';
import { certificateView, certificateViews } from '../certificate-views';
import { parsedBodyOf, pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';

const timeOf = (atMs: number): string => new Date(atMs).toISOString();

const noHostname = (hostname: string): ContainerOsError => {
  const why = whyNoHostname(hostname);
  return new ContainerOsError(
    'invalid',
    `"${hostname}" is no hostname${why === undefined ? '' : `: it ${why}`}. Give one like www.example.com, or a wildcard like *.example.com.`,
  );
};

/** Also one that microservices cannot have: there may be a certificate for it that was uploaded when that was allowed. */
const hostnameOf = (exchange: Exchange): string => {
  const hostname = pathParameter(exchange, 'hostname').toLowerCase();
  if (isPlainHostname(withoutWildcard(hostname))) return hostname;
  throw noHostname(hostname);
};

/** One that a microservice can have. */
const newHostnameOf = (exchange: Exchange): string => {
  const hostname = pathParameter(exchange, 'hostname').toLowerCase();
  if (whyNoHostname(hostname) === undefined) return hostname;
  throw noHostname(hostname);
};

export const certificateRoutes = (deps: RouteDeps): readonly Route[] => {
  const { nowMs } = deps;

  /** Some of them with a path. */
  const claimedHostnames = async (): Promise<readonly string[]> =>
    (await deps.store.list(KV_PREFIX.hostnames))
      .map(({ key }) => key.slice(KV_PREFIX.hostnames.length))
      .filter(isHostnameClaim);

  const views = async (): Promise<readonly CertificateView[]> => {
    const [certificates, statuses, claims] = await Promise.all([
      deps.certificates.store.list(),
      deps.store.list<CertificateStatus>(KV_PREFIX.certificateStatus),
      claimedHostnames(),
    ]);
    return certificateViews({
      certificates,
      statuses: statuses.map(({ value }) => value),
      claims,
      isPublic: deps.certificates.isPublic,
      nowMs: nowMs(),
    });
  };

  const find = async (hostname: string): Promise<CertificateView> => {
    const found = (await views()).find((one) => one.hostname === hostname);
    if (found !== undefined) return found;
    throw new ContainerOsError(
      'not_found',
      `There is no certificate for ${hostname}, and no microservice has that hostname. GET /v1/certificates lists those that there are.`,
    );
  };

  const list = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    sendJson(exchange, 200, { value: { items: [...(await views())] } });
  };

  const show = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    sendJson(exchange, 200, { value: await find(hostnameOf(exchange)) });
  };

  /** @throws {ContainerOsError} with why there is nothing to try */
  const assertAskedFor = async (hostname: string): Promise<void> => {
    if ((await knownOwnerOf(deps.store, hostname)) === undefined) {
      throw new ContainerOsError(
        'not_found',
        `No microservice has the hostname ${hostname}, so no certificate is asked for it. Deploy one that has it; it is asked for by itself then.`,
      );
    }
    if (!deps.certificates.isPublic(hostname)) {
      throw new ContainerOsError(
        'conflict',
        `No public authority is asked for ${hostname}: the cluster's own issues for it, and tries by itself until it has. If there is no certificate, look at the log of the control plane.`,
      );
    }
    const relied = reliedOn(await deps.certificates.store.list(), hostname, nowMs());
    if (relied !== undefined) {
      throw new ContainerOsError(
        'conflict',
        `${hostname} is answered with the certificate for ${relied.hostname} that was uploaded, so no authority is asked. DELETE /v1/certificates/${relied.hostname} removes it; one is asked for by itself then.`,
      );
    }
  };

  const retry = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const hostname = hostnameOf(exchange);
    await parsedBodyOf(exchange, emptyRequestSchema);
    await assertAskedFor(hostname);
    const value = await find(hostname);
    await deps.certificates.retry(hostname);
    deps.log.info({ hostname }, 'the certificate of a hostname is to be tried again');
    sendJson(exchange, 202, { value });
  };

  const upload = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const hostname = newHostnameOf(exchange);
    const { value } = await parsedBodyOf(exchange, certificateRequestSchema);
    const { check, store } = deps.certificates;
    const material = check({ hostname, ...value, nowMs: nowMs() });
    const written = await store.write({ hostname, source: 'uploaded', ...material });
    deps.log.info({ hostname, fingerprint: written.fingerprint }, 'a certificate was uploaded');
    const known = { claims: await claimedHostnames(), nowMs: nowMs() };
    sendJson(exchange, 200, { value: certificateView(written, undefined, known) });
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const hostname = hostnameOf(exchange);
    const { source, message } = await find(hostname);
    if (source === undefined) {
      throw new ContainerOsError(
        'not_found',
        `There is no certificate for ${hostname} to remove. ${message}`,
      );
    }
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
    { method: 'POST', path: '/v1/certificates/{hostname}/retry', access: 'password', handle: retry },
  ];
};
