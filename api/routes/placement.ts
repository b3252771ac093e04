/** Where a microservice's replicas could run, and why not elsewhere. */

import { withMissingBuilds } from '../../domain/placement/builds';
import { explainPlacement } from '../../domain/placement/explain';
import { withDigests } from '../../domain/release-images';
import { emptyQuery } from '../../openapi/parameters';
import type { RouteDeps } from '../api-deps';
import { pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { findMicroservice } from '../find';
import { placementView } from '../views';

export const placementRoutes = ({ readModel, nowMs }: RouteDeps): readonly Route[] => {
  const read = (exchange: Exchange): void => {
    queryOf(exchange, emptyQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    const release = withDigests(microservice.release);
    const verdicts = explainPlacement(
      release.spec,
      withMissingBuilds(readModel.snapshot(microservice), release),
      nowMs(),
      microservice,
    );
    sendJson(exchange, 200, { value: placementView(microservice, verdicts) });
  };

  return [{ method: 'GET', path: '/v1/microservices/{name}/placement', access: 'password', handle: read }];
};
