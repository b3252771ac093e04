/** Events: as a list, or as a stream that can be taken up again where it broke off. */

import { ContainerOsError } from '../../domain/errors';
import { eventListQuery, parseSinceMs } from '../../openapi/parameters';
import type { RouteDeps } from '../api-deps';
import type { StoredEvent } from '../event-log';
import { accepts, beginStream, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { TOPIC } from '../read-documents';
import { EVENT_STREAM, keepAlive, sseMessage } from '../server-sent-events';
import { eventView } from '../views';
import { versionHeaders, waitAsWatched } from '../watch';

const DEFAULT_LIMIT = 200;
const EVENT_ID = /^[0-9]{15}-[A-Za-z0-9_-]{1,64}$/;
const LEVELS = { info: 0, warning: 1, error: 2 } as const;

interface EventFilter {
  readonly microservice?: string | undefined;
  readonly node?: string | undefined;
  readonly operation?: string | undefined;
  readonly level?: keyof typeof LEVELS | undefined;
  readonly type?: string | undefined;
}

const matches =
  (filter: EventFilter) =>
  ({ event }: StoredEvent): boolean =>
    (filter.microservice === undefined ||
      event.microservice?.toLowerCase() === filter.microservice.toLowerCase()) &&
    (filter.node === undefined || event.node === filter.node) &&
    (filter.operation === undefined || event.operation === filter.operation) &&
    (filter.level === undefined || LEVELS[event.level] >= LEVELS[filter.level]) &&
    (filter.type === undefined ||
      (filter.type.endsWith('.') ? event.type.startsWith(filter.type) : event.type === filter.type));

interface Beginning {
  readonly events: readonly StoredEvent[];
  readonly gap: boolean;
}

export const eventRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, nowMs } = deps;

  /** @param since an event's id, a time, or a duration */
  const eventsSince = (since: string): Beginning => {
    if (EVENT_ID.test(since)) return readModel.events.after(since);
    const sinceMs = parseSinceMs(since, nowMs());
    if (sinceMs === undefined) {
      throw new ContainerOsError(
        'invalid',
        'The query parameter since has to be the id of an event, a time (ISO 8601) or a duration like 10m.',
      );
    }
    return { events: readModel.events.all().filter(({ event }) => event.atMs > sinceMs), gap: false };
  };

  const stream = async (
    exchange: Exchange,
    filter: EventFilter,
    since: string | undefined,
  ): Promise<void> => {
    readModel.assertLoaded();
    const isWanted = matches(filter);
    const beginning: Beginning = since === undefined ? { events: [], gap: false } : eventsSince(since);
    // Everything from here on comes after what has just been taken, because nothing runs in between.
    let last = readModel.events.all().at(-1);
    const write = beginStream(exchange, EVENT_STREAM);
    const send = async (events: readonly StoredEvent[]): Promise<boolean> => {
      for (const one of events.filter(isWanted)) {
        const message = { id: one.id, event: one.event.type, data: JSON.stringify(eventView(one)) };
        if (!(await write(sseMessage(message)))) return false;
      }
      return true;
    };
    const stop = keepAlive(exchange, ':\n\n');
    try {
      // An answer that begins at once, so that the client knows that it is connected.
      let goesOn = await write('retry: 2000\n\n');
      if (beginning.gap) {
        const data = JSON.stringify({
          message: `The event ${since} is no longer kept; events may be missing here.`,
        });
        goesOn = goesOn && (await write(sseMessage({ event: 'gap', data })));
      }
      goesOn = goesOn && (await send(beginning.events));
      while (goesOn && !exchange.signal.aborted) {
        const { versions, events } = readModel;
        const version = versions.of(TOPIC.events);
        const fresh = last === undefined ? { events: events.all(), gap: false } : events.after(last.id);
        last = events.all().at(-1) ?? last;
        goesOn = await send(fresh.events);
        if (goesOn) await versions.waitBeyond(TOPIC.events, version, 60_000, exchange.signal);
      }
    } finally {
      stop();
      exchange.res.end();
    }
  };

  const list = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, eventListQuery);
    const lastEventId = exchange.req.headers['last-event-id'];
    if (lastEventId !== undefined && !EVENT_ID.test(String(lastEventId))) {
      throw new ContainerOsError('invalid', 'Last-Event-ID has to be the id of an event.');
    }
    const from = lastEventId === undefined ? query.since : String(lastEventId);
    if (accepts(exchange, EVENT_STREAM)) {
      await stream(exchange, query, from);
      return;
    }
    await waitAsWatched(deps, exchange, query, TOPIC.events);
    const index = readModel.versions.of(TOPIC.events);
    const limit = query.limit === undefined ? DEFAULT_LIMIT : Number(query.limit);
    const since = from === undefined ? readModel.events.all() : eventsSince(from).events;
    const wanted = since.filter(matches(query));
    // With a beginning one reads on from it; without, one wants the newest.
    const kept =
      from === undefined ? wanted.slice(Math.max(0, wanted.length - limit)) : wanted.slice(0, limit);
    const more = from !== undefined && kept.length < wanted.length ? kept.at(-1) : undefined;
    const value = {
      index,
      items: kept.map(eventView),
      ...(more === undefined ? {} : { next: more.id }),
    };
    sendJson(exchange, 200, { value }, versionHeaders(deps, index));
  };

  return [{ method: 'GET', path: '/v1/events', access: 'password', handle: list }];
};
