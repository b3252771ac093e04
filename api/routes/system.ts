/** What ContainerOS says of itself: what it is, whether it lives, whether it works, its metrics and its document. */

import { ContainerOsError } from '../../domain/errors';
import { emptyQuery } from '../../openapi/parameters';
import { buildOpenApiDocument } from '../../openapi/build-document';
import type { RouteDeps } from '../api-deps';
import { queryOf, sendJson, type Exchange, type Route } from '../exchange';

const READINESS_TIMEOUT_MS = 5_000;

const problemWith = (reasons: readonly string[]): ContainerOsError =>
  new ContainerOsError(
    'unavailable',
    `ContainerOS is not ready: ${reasons.join('; ')}.`,
    reasons.map((message) => ({ path: '', message })),
  );

export const systemRoutes = (deps: RouteDeps): readonly Route[] => {
  const { config, readModel, metrics, notReady } = deps;
  const document = JSON.stringify(buildOpenApiDocument(config.version));

  const about = (exchange: Exchange): void => {
    // Anything may be in the query: this is what people and load balancers open first.
    sendJson(exchange, 200, {
      value: {
        name: 'ContainerOS',
        version: config.version,
        api: '/v1',
        documentation: '/openapi.json',
      },
    });
  };

  const lives = (exchange: Exchange): void => {
    queryOf(exchange, emptyQuery);
    sendJson(exchange, 200, { value: { status: 'ok' } });
  };

  const works = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const { loaded, staleReason } = readModel.status();
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<readonly string[]>((resolve) => {
      timer = setTimeout(
        () => resolve([`the other parts did not answer within ${READINESS_TIMEOUT_MS / 1_000} s`]),
        READINESS_TIMEOUT_MS,
      );
    });
    const others = await Promise.race([notReady(), limit]).finally(() => clearTimeout(timer));
    const reasons = [
      ...(loaded ? [] : ['the state of the cluster has not been read from Consul yet']),
      ...(staleReason === undefined ? [] : [staleReason.replace(/\.$/, '')]),
      ...others,
    ];
    if (reasons.length > 0) throw problemWith(reasons);
    sendJson(exchange, 200, { value: { status: 'ok' } });
  };

  const measure = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const text = await metrics.metrics();
    exchange.res.writeHead(200, { 'content-type': metrics.contentType });
    exchange.res.end(text);
  };

  const describe = (exchange: Exchange): void => {
    queryOf(exchange, emptyQuery);
    sendJson(exchange, 200, { text: document });
  };

  return [
    { method: 'GET', path: '/', access: 'open', handle: about },
    { method: 'GET', path: '/healthz', access: 'open', handle: lives },
    { method: 'GET', path: '/readyz', access: 'open', handle: works },
    { method: 'GET', path: '/openapi.json', access: 'open', handle: describe },
    { method: 'GET', path: '/metrics', access: 'password', handle: measure },
  ];
};
