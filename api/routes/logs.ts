/** Logs of containers, read from the nodes where they run. */

import { ContainerOsError } from '../../domain/errors';
import { isSet, logsQuery, microserviceLogsQuery, parseSinceMs } from '../../openapi/parameters';
import type { RouteDeps } from '../api-deps';
import { accepts, beginStream, pathParameter, queryOf, type Exchange, type Route } from '../exchange';
import { containerNotFound, findMicroservice, findReplica, notFound } from '../find';
import { followedLogs, pastLogs, type LogFilter, type LogItem } from '../log-sources';
import { TOPIC } from '../read-documents';
import type { ShownReplica } from '../read-model';
import { keepAlive } from '../server-sent-events';
import { logLineView } from '../views';

const NDJSON = 'application/x-ndjson';

interface LogsQuery {
  readonly tail?: string | undefined;
  readonly since?: string | undefined;
  readonly container?: string | undefined;
}

const filterOf = (query: LogsQuery, nowMs: number): LogFilter => {
  const sinceMs = query.since === undefined ? undefined : parseSinceMs(query.since, nowMs);
  if (query.since !== undefined && sinceMs === undefined) {
    throw new ContainerOsError(
      'invalid',
      'The query parameter since has to be a time (ISO 8601) or a duration like 10m.',
    );
  }
  return {
    ...(query.tail === undefined ? {} : { tail: Number(query.tail) }),
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(query.container === undefined ? {} : { container: query.container }),
  };
};

/** A line for people; with its origin when there are several. */
const asText = (item: LogItem, origins: 'none' | 'container' | 'replica'): string => {
  if (item.kind === 'trouble') return `-- ${item.replica}: ${item.reason}\n`;
  const { replica, container, line } = item.line;
  switch (origins) {
    case 'none':
      return `${line}\n`;
    case 'container':
      return `${container} | ${line}\n`;
    case 'replica':
      return `${replica}/${container} | ${line}\n`;
  }
};

const asNdjson = (item: LogItem): string =>
  `${JSON.stringify(item.kind === 'line' ? logLineView(item.line) : { replica: item.replica, error: item.reason })}\n`;

const assertContainer = (replicas: readonly ShownReplica[], container: string | undefined) => {
  const names = [...new Set(replicas.flatMap((replica) => replica.containers.map(({ name }) => name)))];
  if (container !== undefined && replicas.length > 0 && !names.includes(container)) {
    throw containerNotFound(container, names);
  }
};

export const logRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, nodeStreams, nowMs } = deps;

  const pour = async (
    exchange: Exchange,
    items: AsyncGenerator<LogItem>,
    origins: 'none' | 'container' | 'replica',
  ): Promise<void> => {
    const isNdjson = accepts(exchange, NDJSON);
    const write = beginStream(exchange, isNdjson ? NDJSON : 'text/plain; charset=utf-8');
    // Plain text has nothing that means nothing, so only NDJSON is kept alive.
    const stop = isNdjson ? keepAlive(exchange, '\n') : () => undefined;
    try {
      for await (const item of items) {
        if (!(await write(isNdjson ? asNdjson(item) : asText(item, origins)))) break;
      }
    } finally {
      stop();
      exchange.res.end();
    }
  };

  const ofReplica = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, logsQuery);
    const replica = findReplica(readModel, pathParameter(exchange, 'id'));
    assertContainer([replica], query.container);
    const filter = filterOf(query, nowMs());
    const origins = replica.containers.length > 1 && query.container === undefined ? 'container' : 'none';
    const { signal } = exchange;
    if (isSet(query.follow)) {
      const source = { current: () => [replica], onChange: () => () => undefined };
      await pour(exchange, followedLogs(nodeStreams, source, filter, signal, true), origins);
    } else await pour(exchange, await pastLogs(nodeStreams, [replica], filter, signal), origins);
  };

  const ofMicroservice = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, microserviceLogsQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    const wanted = () =>
      readModel
        .replicasOf(microservice)
        .filter(({ id }) => query.replica === undefined || id === query.replica);
    const replicas = wanted();
    if (query.replica !== undefined && replicas.length === 0) {
      throw notFound(
        'replica',
        query.replica,
        readModel.replicasOf(microservice).map(({ id }) => id),
      );
    }
    assertContainer(replicas, query.container);
    const filter = filterOf(query, nowMs());
    const { signal } = exchange;
    if (isSet(query.follow)) {
      const source = {
        current: wanted,
        onChange: (listener: () => void) =>
          readModel.versions.listen(TOPIC.microservice(microservice), listener),
      };
      const endsWithReplicas = query.replica !== undefined;
      await pour(exchange, followedLogs(nodeStreams, source, filter, signal, endsWithReplicas), 'replica');
    } else {
      const origins =
        replicas.length > 1 ? 'replica' : (replicas[0]?.containers.length ?? 0) > 1 ? 'container' : 'none';
      await pour(exchange, await pastLogs(nodeStreams, replicas, filter, signal), origins);
    }
  };

  const access = 'password';
  return [
    { method: 'GET', path: '/v1/replicas/{id}/logs', access, handle: ofReplica },
    { method: 'GET', path: '/v1/microservices/{name}/logs', access, handle: ofMicroservice },
  ];
};
