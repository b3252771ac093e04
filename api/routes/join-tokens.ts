/** Join tokens: what lets further machines become nodes. */

import type { JoinToken } from '../../domain/identity';
import { emptyQuery } from '../../openapi/parameters';
import { joinTokenRequestSchema, type JoinTokenView } from '../../openapi/schemas';
import type { RouteDeps } from '../api-deps';
import { parsedBodyOf, pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { createJoinTokens } from '../join/join-tokens';

const timeOf = (atMs: number): string => new Date(atMs).toISOString();

/** Field by field, so that the hash of the secret stays where it is. */
const joinTokenView = ({
  id,
  createdAtMs,
  expiresAtMs,
  usesLeft,
  usedBy,
  revokedAtMs,
}: JoinToken): JoinTokenView => ({
  id,
  createdAt: timeOf(createdAtMs),
  expiresAt: timeOf(expiresAtMs),
  usesLeft,
  usedBy: [...usedBy],
  ...(revokedAtMs === undefined ? {} : { revokedAt: timeOf(revokedAtMs) }),
});

export const joinTokenRoutes = ({ joining, nowMs }: RouteDeps): readonly Route[] => {
  const tokens = createJoinTokens({ ...joining, nowMs });

  const create = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const { value } = await parsedBodyOf(exchange, joinTokenRequestSchema);
    const { expiresAtMs, ...made } = await tokens.create({
      ...(value.uses === undefined ? {} : { uses: value.uses }),
      ...(value.expiresInSeconds === undefined ? {} : { expiresInMs: value.expiresInSeconds * 1_000 }),
    });
    sendJson(exchange, 201, { value: { ...made, expiresAt: timeOf(expiresAtMs) } });
  };

  const list = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    sendJson(exchange, 200, { value: { items: (await tokens.list()).map(joinTokenView) } });
  };

  const revoke = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    await tokens.revoke(pathParameter(exchange, 'id'));
    exchange.res.writeHead(204).end();
  };

  return [
    { method: 'POST', path: '/v1/join-tokens', access: 'password', handle: create },
    { method: 'GET', path: '/v1/join-tokens', access: 'password', handle: list },
    { method: 'DELETE', path: '/v1/join-tokens/{id}', access: 'password', handle: revoke },
  ];
};
