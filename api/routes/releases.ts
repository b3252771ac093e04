/** Releases of a microservice, each with what it changed. */

import { emptyQuery, releaseListQuery } from '../../openapi/parameters';
import type { RouteDeps } from '../api-deps';
import { pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { findMicroservice, notFound } from '../find';
import { pageOf } from '../page';
import { TOPIC } from '../read-documents';
import { releaseView } from '../views';
import { versionHeaders, waitAsWatched } from '../watch';

export const releaseRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, operations } = deps;

  const viewsOf = async (name: string) => {
    const microservice = findMicroservice(readModel, name);
    const { release: wanted, settledRelease } = microservice;
    const releases = readModel.releases(microservice);
    const split = readModel.splitOf(microservice);
    const operation =
      settledRelease === wanted.number ? undefined : await operations.find(microservice.operation);
    return releases.map((release, index) =>
      releaseView(microservice, release, { before: releases[index + 1], split, operation }),
    );
  };

  const list = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const query = queryOf(exchange, releaseListQuery);
    const microservice = findMicroservice(readModel, name);
    await waitAsWatched(deps, exchange, query, TOPIC.microservice(microservice));
    const page = pageOf(
      await viewsOf(name),
      query,
      ({ number }) => String(number),
      ({ number }, cursor) => number < Number(cursor),
    );
    const index = readModel.versions.of(TOPIC.microservice(microservice));
    sendJson(exchange, 200, { value: { index, ...page } }, versionHeaders(deps, index));
  };

  const read = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    queryOf(exchange, emptyQuery);
    const wanted = pathParameter(exchange, 'release').replace(/^v/, '');
    const views = await viewsOf(name);
    const view = views.find(({ number }) => String(number) === wanted);
    if (!view) {
      throw notFound(
        `release of ${name}`,
        wanted,
        views.map(({ number }) => String(number)),
      );
    }
    sendJson(exchange, 200, { value: view });
  };

  const access = 'password';
  return [
    { method: 'GET', path: '/v1/microservices/{name}/releases', access, handle: list },
    { method: 'GET', path: '/v1/microservices/{name}/releases/{release}', access, handle: read },
  ];
};
