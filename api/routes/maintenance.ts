/** Maintenance: begins and ends without a release. */

import type { Maintenance } from '../../domain/ingress/route-options';
import { emptyQuery } from '../../openapi/parameters';
import { maintenanceRequestSchema, type MaintenanceView } from '../../openapi/schemas';
import type { RouteDeps } from '../api-deps';
import { parsedBodyOf, pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { findMicroservice } from '../find';

/** What somebody gives is answered as it is; this one ends its line, as all that the ingress says by itself. */
const DEFAULT_TEXT = 'Under maintenance. Please come back later.\n';
const DEFAULT_RETRY_AFTER_SECONDS = 60;

/** @param behind nodes whose ingress has not confirmed it */
const viewOf = (
  name: string,
  maintenance: Maintenance | undefined,
  behind: readonly string[] = [],
): MaintenanceView => ({
  microservice: name,
  on: maintenance !== undefined,
  ...(maintenance === undefined ? {} : { ...maintenance, allow: [...maintenance.allow] }),
  ...(behind.length === 0 ? {} : { behind: [...behind] }),
});

export const maintenanceRoutes = ({ readModel, maintenance }: RouteDeps): readonly Route[] => {
  const found = (exchange: Exchange) => findMicroservice(readModel, pathParameter(exchange, 'name'));

  const read = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = found(exchange);
    sendJson(exchange, 200, { value: viewOf(microservice.name, await maintenance.read(microservice)) });
  };

  const begin = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = found(exchange);
    const { value } = await parsedBodyOf(exchange, maintenanceRequestSchema);
    const { text = DEFAULT_TEXT, retryAfterSeconds = DEFAULT_RETRY_AFTER_SECONDS, allow = [] } = value;
    const wanted: Maintenance = { text, retryAfterSeconds, allow };
    const behind = await maintenance.set(microservice, wanted, exchange.signal);
    sendJson(exchange, 200, { value: viewOf(microservice.name, wanted, behind) });
  };

  const end = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = found(exchange);
    const behind = await maintenance.set(microservice, undefined, exchange.signal);
    sendJson(exchange, 200, { value: viewOf(microservice.name, undefined, behind) });
  };

  const access = 'password';
  const path = '/v1/microservices/{name}/maintenance';
  return [
    { method: 'GET', path, access, handle: read },
    { method: 'PUT', path, access, handle: begin },
    { method: 'DELETE', path, access, handle: end },
  ];
};
