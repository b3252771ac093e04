/** Operations: what was asked for, how far it has come, and how it ended. */

import { ContainerOsError } from '../../domain/errors';
import type { MicroserviceKey, Operation } from '../../domain/model';
import { changeQuery, emptyQuery, operationListQuery, operationsOfQuery } from '../../openapi/parameters';
import { answerOperation, waitForEnd, waitMsOf } from '../answer-change';
import type { RouteDeps } from '../api-deps';
import {
  accepts,
  beginStream,
  pathParameter,
  queryOf,
  sendJson,
  type Exchange,
  type Route,
} from '../exchange';
import { assertName, findMicroservice, keyOf, notFound } from '../find';
import { newestFirst } from '../operations';
import { pageOf, type PageQuery } from '../page';
import { TOPIC } from '../read-documents';
import { EVENT_STREAM, keepAlive, sseMessage } from '../server-sent-events';
import { operationView } from '../views';
import { versionHeaders, waitAsWatched, type WatchQuery } from '../watch';

const DEFAULT_LIMIT = '100';

interface OperationFilter extends WatchQuery, PageQuery {
  readonly state?: Operation['state'] | undefined;
  readonly kind?: Operation['kind'] | undefined;
}

export const operationRoutes = (deps: RouteDeps): readonly Route[] => {
  const { operations, readModel, webUi } = deps;

  /**
   * Operations are published together with their microservice, so its version is theirs. It is taken before they are
   * read: what comes in between is newer than what the answer says of itself, and wakes whoever hands that back.
   */
  const sendList = async (
    exchange: Exchange,
    filter: OperationFilter,
    topic: string,
    key?: MicroserviceKey,
  ) => {
    await waitAsWatched(deps, exchange, filter, topic);
    const index = readModel.versions.of(topic);
    const found = await operations.list(key);
    const wanted = found.filter(
      ({ state, kind }) =>
        (filter.state === undefined || state === filter.state) &&
        (filter.kind === undefined || kind === filter.kind),
    );
    // Ids do not tell the order, so the operation itself has to be there.
    const before = filter.after === undefined ? undefined : found.find(({ id }) => id === filter.after);
    if (filter.after !== undefined && !before) {
      throw new ContainerOsError(
        'not_found',
        `The operation ${filter.after} is no longer kept. Begin again without after.`,
      );
    }
    const { items, ...rest } = pageOf(
      wanted,
      { limit: filter.limit ?? DEFAULT_LIMIT, after: filter.after },
      ({ id }) => id,
      (operation) => before === undefined || newestFirst(operation, before) > 0,
    );
    const value = { index, items: items.map((operation) => operationView(operation, webUi)), ...rest };
    sendJson(exchange, 200, { value }, versionHeaders(deps, index));
  };

  const list = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, operationListQuery);
    if (query.microservice !== undefined) assertName(readModel, query.microservice);
    // All of them: a removed microservice is shown too, and has no version of its own any more.
    const key = query.microservice === undefined ? undefined : keyOf(query.microservice);
    await sendList(exchange, query, TOPIC.microservices, key);
  };

  const listOf = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, operationsOfQuery);
    const key = findMicroservice(readModel, pathParameter(exchange, 'name'));
    await sendList(exchange, query, TOPIC.microservice(key), key);
  };

  const find = async (id: string): Promise<Operation> => {
    const operation = await operations.find(id);
    if (!operation) throw notFound('operation', id);
    return operation;
  };

  /** Asking for an operation is no change, so how it ended is told in the body, unless one waited for its success. */
  const read = async (exchange: Exchange): Promise<void> => {
    const id = pathParameter(exchange, 'id');
    const { wait } = queryOf(exchange, changeQuery);
    const waitMs = waitMsOf(wait);
    const operation = await find(id);
    if (waitMs === 0) {
      sendJson(exchange, 200, { value: operationView(operation, webUi) });
      return;
    }
    const last = await waitForEnd(deps, exchange, id, waitMs);
    answerOperation(deps, exchange, last ?? operation);
  };

  const follow = async (exchange: Exchange): Promise<void> => {
    const id = pathParameter(exchange, 'id');
    queryOf(exchange, emptyQuery);
    await find(id);
    const isEventStream = accepts(exchange, EVENT_STREAM);
    const write = beginStream(exchange, isEventStream ? EVENT_STREAM : 'application/x-ndjson');
    const stop = keepAlive(exchange, isEventStream ? ':\n\n' : '\n');
    try {
      for await (const operation of operations.follow(id, exchange.signal)) {
        const text = JSON.stringify(operationView(operation, webUi));
        if (!(await write(isEventStream ? sseMessage({ event: 'operation', data: text }) : `${text}\n`)))
          break;
      }
    } finally {
      stop();
      exchange.res.end();
    }
  };

  const access = 'password';
  return [
    { method: 'GET', path: '/v1/operations', access, handle: list },
    { method: 'GET', path: '/v1/operations/{id}', access, handle: read },
    { method: 'GET', path: '/v1/operations/{id}/follow', access, handle: follow },
    { method: 'GET', path: '/v1/microservices/{name}/operations', access, handle: listOf },
  ];
};
