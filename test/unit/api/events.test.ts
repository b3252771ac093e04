/** Events: the list, the live stream, and taking it up again. */

import { createEventLog } from '../../../api/event-log';
import { eventKvKey } from '../../../contracts/kv';
import type { ClusterEvent } from '../../../domain/model';
import { eventSchema, type EventView } from '../../../openapi/schemas';
import { NOW_MS } from '../../support/builders';
import { openRequest } from '../../support/http';
import { eventually } from '../../support/wait';

import { PASSWORD, eventDocument, startApi, useApi } from './api-under-test';

const world = useApi();
const put = async (...documents: Record<string, unknown>[]) => {
  for (const document of documents) {
    const index = world.api.kv.put(document);
    await eventually(
      () => expect(world.api.readModel.status().indexes.events).toBeGreaterThanOrEqual(index),
      {
        intervalMs: 2,
      },
    );
  }
};
const event = (second: number, suffix: string, overrides: Partial<ClusterEvent> = {}) =>
  eventDocument(NOW_MS + second * 1_000, suffix.padEnd(8, '0'), overrides);
const idOf = (second: number, suffix: string) =>
  eventKvKey(NOW_MS + second * 1_000, suffix.padEnd(8, '0'))
    .split('/')
    .at(-1) ?? '';

const list = async (query = '') => {
  const { status, body } = await world.api.call('GET', `/v1/events${query}`);
  expect(status).toBe(200);
  return (body as { items: EventView[] }).items;
};
const messages = async (query = '') => (await list(query)).map(({ message }) => message.replace(/0+$/, ''));

/** Reads a stream until it has as many messages as wanted. */
const openStream = async (query = '', headers: Record<string, string> = {}, url = world.api.url) => {
  const response = await openRequest(`${url}/v1/events${query}`, {
    headers: { accept: 'text/event-stream', authorization: `Bearer ${PASSWORD}`, ...headers },
  });
  let text = '';
  let isEnded = false;
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => (text += chunk));
  response.on('end', () => (isEnded = true));
  response.on('error', () => undefined);
  const ids = () => [...text.matchAll(/^id: (.*)$/gm)].map(([, id]) => id);
  return {
    response,
    text: () => text,
    ids,
    isEnded: () => isEnded,
    whenIds: (wanted: readonly string[]) =>
      eventually(() => expect(ids()).toEqual(wanted), { intervalMs: 5 }),
    close: () => response.destroy(),
  };
};

describe('the list', () => {
  test('is in the order in which Consul took them in, and filtered', async () => {
    await put(
      event(5, 'a', {
        level: 'error',
        type: 'replica.crashed',
        microservice: 'Web',
        node: 'n1',
        operation: 'o',
      }),
      event(1, 'b', { level: 'warning', type: 'node.degraded', node: 'n2' }),
      event(9, 'c', { type: 'replica.started', microservice: 'web' }),
    );
    expect(await messages()).toEqual(['a', 'b', 'c']);
    expect(await messages('?level=warning')).toEqual(['a', 'b']);
    expect(await messages('?level=error')).toEqual(['a']);
    expect(await messages('?microservice=web')).toEqual(['a', 'c']);
    expect(await messages('?node=n2')).toEqual(['b']);
    expect(await messages('?operation=o')).toEqual(['a']);
    expect(await messages('?type=replica.')).toEqual(['a', 'c']);
    expect(await messages('?type=replica.crashed')).toEqual(['a']);
    expect(await messages('?limit=1')).toEqual(['c']);
    expect(await messages(`?since=${idOf(5, 'a')}`)).toEqual(['b', 'c']);
    expect(await messages(`?since=${idOf(5, 'a')}&limit=1`)).toEqual(['b']);
    expect(await messages(`?since=${new Date(NOW_MS + 1_000).toISOString()}`)).toEqual(['a', 'c']);
    for (const item of await list()) expect(eventSchema.safeParse(item).error).toBeUndefined();
  });

  test('says also what the clock of a node said, where it is not believed', async () => {
    await put(event(1, 'a', { node: 'n1', nodeAtMs: NOW_MS + 10_800_000 }), event(2, 'b'));
    const [ahead, right] = await list();
    expect(eventSchema.safeParse(ahead).error).toBeUndefined();
    expect(ahead).toMatchObject({
      at: new Date(NOW_MS + 1_000).toISOString(),
      nodeAt: new Date(NOW_MS + 10_800_000).toISOString(),
    });
    expect(right).not.toHaveProperty('nodeAt');
  });

  test('can be watched', async () => {
    await put(event(1, 'a'));
    const { index } = (await world.api.call('GET', '/v1/events')).body as { index: number };
    const watching = messages(`?watch=${index}`);
    await put(event(2, 'b'));
    expect(await watching).toEqual(['a', 'b']);
  });
});

describe('the stream', () => {
  test('begins at once, and tells what happens from then on', async () => {
    await put(event(1, 'old'));
    const stream = await openStream();
    expect(stream.response.headers['content-type']).toBe('text/event-stream');
    await eventually(() => expect(stream.text()).toContain('retry: 2000'), { intervalMs: 5 });
    await put(event(2, 'a', { type: 'node.degraded' }), event(3, 'b'));
    await stream.whenIds([idOf(2, 'a'), idOf(3, 'b')]);
    expect(stream.text()).toContain('event: node.degraded\n');
    const [, data = ''] = /^data: (.*)$/m.exec(stream.text()) ?? [];
    expect(eventSchema.safeParse(JSON.parse(data)).error).toBeUndefined();
    stream.close();
  });

  test('tells the first event there ever was', async () => {
    const stream = await openStream();
    await eventually(() => expect(stream.text()).toContain('retry'), { intervalMs: 5 });
    await put(event(1, 'a'));
    await stream.whenIds([idOf(1, 'a')]);
    stream.close();
  });

  test('is taken up after the last event received, whatever the clocks of the writers say', async () => {
    await put(event(5, 'a'), event(9, 'b'));
    // This one came in while nobody listened, from a node whose clock is late.
    await put(event(2, 'late'), event(10, 'c'));
    const stream = await openStream('', { 'last-event-id': idOf(9, 'b') });
    await stream.whenIds([idOf(2, 'late'), idOf(10, 'c')]);
    await put(event(11, 'd'));
    await stream.whenIds([idOf(2, 'late'), idOf(10, 'c'), idOf(11, 'd')]);
    expect(stream.text()).not.toContain('event: gap');
    stream.close();
  });

  test('says so when the event to go on from is no longer kept', async () => {
    await put(event(1, 'a'), event(5, 'b'), event(6, 'c'));
    world.api.kv.delete(eventKvKey(NOW_MS + 1_000, 'a'.padEnd(8, '0')));
    await eventually(async () => expect(await messages()).toEqual(['b', 'c']), { intervalMs: 2 });
    const stream = await openStream('', { 'last-event-id': idOf(1, 'a') });
    await stream.whenIds([idOf(5, 'b'), idOf(6, 'c')]);
    expect(stream.text().indexOf('event: gap')).toBeLessThan(stream.text().indexOf('id: '));
    expect(stream.text()).toContain('event: gap');
    stream.close();
  });

  test('is taken up across a restart of the API', async () => {
    await put(event(1, 'a'), event(2, 'b'));
    const other = await startApi({ kv: world.api.kv });
    try {
      const stream = await openStream('', { 'last-event-id': idOf(1, 'a') }, other.url);
      await stream.whenIds([idOf(2, 'b')]);
      stream.close();
    } finally {
      await other.close();
    }
  });

  test('is filtered, and can begin in the past', async () => {
    await put(event(1, 'a', { level: 'error' }), event(2, 'b'));
    const stream = await openStream(`?level=error&since=${new Date(NOW_MS).toISOString()}`);
    await stream.whenIds([idOf(1, 'a')]);
    await put(event(3, 'c'), event(4, 'd', { level: 'error' }));
    await stream.whenIds([idOf(1, 'a'), idOf(4, 'd')]);
    stream.close();
  });

  test('loses nothing of a burst', async () => {
    const stream = await openStream();
    await eventually(() => expect(stream.text()).toContain('retry'), { intervalMs: 5 });
    const seconds = Array.from({ length: 500 }, (_, second) => second);
    for (const second of seconds) world.api.kv.put(event(second, 'x'));
    await stream.whenIds(seconds.map((second) => idOf(second, 'x')));
    stream.close();
  });

  test('refuses an id that is none', async () => {
    const stream = await openStream('', { 'last-event-id': 'yesterday' });
    expect(stream.response.statusCode).toBe(400);
    stream.close();
  });

  test('ends when the server closes', async () => {
    const stream = await openStream();
    await eventually(() => expect(stream.text()).toContain('retry'), { intervalMs: 5 });
    world.api.closing.abort();
    await eventually(() => expect(stream.isEnded()).toBe(true), { intervalMs: 5 });
  });
});

describe('the log of events', () => {
  const stored = (id: string, index: number) => ({
    id,
    index,
    event: { atMs: 0, level: 'info', type: 't', message: id } as const,
  });
  const idsOf = (events: readonly { readonly id: string }[]) => events.map(({ id }) => id);

  test('is in the order of Consul, also after Consul has numbered its writes anew', () => {
    const log = createEventLog();
    expect(idsOf(log.add([stored('b', 20), stored('a', 10)]))).toEqual(['a', 'b']);
    expect(log.add([stored('a', 10)])).toEqual([]);
    log.add([stored('a', 2), stored('b', 3), stored('c', 4)]);
    expect(idsOf(log.all())).toEqual(['a', 'b', 'c']);
    expect(idsOf(log.after('b').events)).toEqual(['c']);
  });

  test('has events of one write in the order of their ids', () => {
    const log = createEventLog();
    log.add([stored('b', 1), stored('a', 1), stored('c', 1)]);
    expect(idsOf(log.after('a').events)).toEqual(['b', 'c']);
  });

  test('tells what comes after an id that it never knew by the time in it', () => {
    const log = createEventLog();
    log.add([stored('1', 1), stored('3', 2)]);
    expect(log.after('2')).toMatchObject({ gap: true, events: [{ id: '3' }] });
    log.remove(['1']);
    expect(log.after('1')).toMatchObject({ gap: true, events: [{ id: '3' }] });
  });
});
