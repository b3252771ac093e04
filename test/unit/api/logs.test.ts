/** Logs: over the connections that nodes opened, of one replica and of many. */

import { request } from 'node:http';

import type { LogLine, NodeStreamRequest } from '../../../contracts/node-stream';
import { nodeRequestsPath, nodeStreamPath } from '../../../contracts/node-stream';
import { NOW_MS, buildReplica } from '../../support/builders';
import { httpRequest, openRequest } from '../../support/http';
import { eventually } from '../../support/wait';

import {
  TOKEN,
  buildMicroservice,
  microserviceDocuments,
  nodeDocument,
  replicaDocument,
  useApi,
} from './api-under-test';

const world = useApi();
const auth = { authorization: `Bearer ${TOKEN}` };

const container = (name: string) => ({
  name,
  containerId: name,
  image: 'nginx:1.27',
  imageId: 'sha256:0',
  running: true,
  restartCount: 0,
});

const replica = (id: string, nodeId: string, containers = ['app']) =>
  replicaDocument(buildReplica(id, nodeId, { containers: containers.map(container) }));

const line = (replicaId: string, atMs: number, text: string, containerName = 'app'): LogLine => ({
  replica: replicaId,
  container: containerName,
  stream: 'stdout',
  atMs: NOW_MS + atMs,
  line: text,
});

interface FakeNode {
  readonly requests: NodeStreamRequest[];
  close(): void;
}

/** A node worker: keeps its stream open, and answers each request with what `lines` yields. */
const connectNode = async (
  nodeId: string,
  lines: (wanted: NodeStreamRequest) => AsyncIterable<LogLine> | { error: string; message: string },
): Promise<FakeNode> => {
  const requests: NodeStreamRequest[] = [];
  const stream = await openRequest(`${world.api.url}${nodeRequestsPath(nodeId)}`, {
    headers: auth,
    timeoutMs: 30_000,
  });
  stream.on('error', () => undefined);
  stream.setEncoding('utf8');
  const answer = async (wanted: NodeStreamRequest) => {
    const given = lines(wanted);
    if ('error' in given) {
      const query = new URLSearchParams({ error: given.error, message: given.message }).toString();
      await httpRequest(`${world.api.url}${nodeStreamPath(wanted.requestId)}?${query}`, {
        method: 'POST',
        headers: auth,
      });
      return;
    }
    const outgoing = request(`${world.api.url}${nodeStreamPath(wanted.requestId)}`, {
      method: 'POST',
      headers: auth,
    });
    let isCut = false;
    outgoing.on('error', () => (isCut = true));
    outgoing.on('response', (response) => response.resume());
    outgoing.flushHeaders();
    for await (const one of given) {
      if (isCut) return;
      outgoing.write(`${JSON.stringify(one)}\n`);
    }
    outgoing.end();
  };
  stream.on('data', (text: string) => {
    for (const one of text.split('\n').filter((part) => part !== '')) {
      const wanted = JSON.parse(one) as NodeStreamRequest;
      requests.push(wanted);
      void answer(wanted);
    }
  });
  await eventually(() => expect(world.api.nodeStreams.isConnected(nodeId)).toBe(true), { intervalMs: 2 });
  return { requests, close: () => stream.destroy() };
};

async function* give(...lines: LogLine[]): AsyncGenerator<LogLine> {
  for (const one of lines) yield one;
}

const put = async (...documents: Record<string, unknown>[]) => {
  const index = world.api.kv.put(Object.assign({}, ...documents) as Record<string, unknown>);
  await eventually(
    () => {
      const { indexes } = world.api.readModel.status();
      expect(Math.min(indexes.replicas, indexes.microservices, indexes.nodes)).toBeGreaterThanOrEqual(index);
    },
    { intervalMs: 2 },
  );
};

/** Reads an answer as it grows. */
const open = async (path: string, headers: Record<string, string> = {}) => {
  const response = await openRequest(
    `${world.api.url}${path}${path.includes('?') ? '&' : '?'}password=right-password`,
    {
      headers,
    },
  );
  let text = '';
  let isEnded = false;
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => (text += chunk));
  response.on('end', () => (isEnded = true));
  response.on('error', () => undefined);
  return { response, text: () => text, isEnded: () => isEnded };
};

describe('of one replica', () => {
  test('are plain text, and NDJSON for those who ask', async () => {
    await put(replica('web-1', 'n1'));
    const node = await connectNode('n1', () => give(line('web-1', 1, 'hello'), line('web-1', 2, 'wörld')));
    const text = await world.api.call('GET', '/v1/replicas/web-1/logs');
    expect(text.headers['content-type']).toBe('text/plain; charset=utf-8');
    expect(text.text).toBe('hello\nwörld\n');
    const ndjson = await world.api.call('GET', '/v1/replicas/web-1/logs', {
      headers: { accept: 'application/x-ndjson' },
    });
    expect(JSON.parse(ndjson.text.split('\n')[0] ?? '')).toEqual({
      replica: 'web-1',
      container: 'app',
      stream: 'stdout',
      at: '2026-01-01T00:00:00.001Z',
      line: 'hello',
    });
    node.close();
  });

  test('what is wanted reaches the node', async () => {
    await put(replica('web-1', 'n1'));
    const node = await connectNode('n1', () => give());
    await world.api.call('GET', '/v1/replicas/web-1/logs?tail=5&since=1970-01-01T00:00:01Z&container=app');
    await world.api.call('GET', '/v1/replicas/web-1/logs?follow=true');
    expect(node.requests).toMatchObject([
      { kind: 'logs', replicaId: 'web-1', tail: 5, sinceMs: 1_000, container: 'app', follow: false },
      { kind: 'logs', replicaId: 'web-1', follow: true },
    ]);
    node.close();
  });

  test('with several containers say which', async () => {
    await put(replica('web-1', 'n1', ['app', 'side']));
    const node = await connectNode('n1', () => give(line('web-1', 1, 'a'), line('web-1', 2, 'b', 'side')));
    expect((await world.api.call('GET', '/v1/replicas/web-1/logs')).text).toBe('app | a\nside | b\n');
    const unknown = await world.api.call('GET', '/v1/replicas/web-1/logs?container=sid');
    expect(unknown.status).toBe(404);
    expect(unknown.text).toContain('Did you mean side?');
    node.close();
  });

  test('of a node that refuses, with its word', async () => {
    await put(replica('web-1', 'n1'));
    const node = await connectNode('n1', () => ({ error: 'not_found', message: 'The container is gone.' }));
    const answer = await world.api.call('GET', '/v1/replicas/web-1/logs');
    expect(answer.status).toBe(404);
    expect(answer.body).toMatchObject({ detail: 'The container is gone.' });
    node.close();
  });

  test('of a node that is not connected: 503', async () => {
    await put(replica('web-1', 'n1'));
    const answer = await world.api.call('GET', '/v1/replicas/web-1/logs');
    expect(answer.status).toBe(503);
    expect(answer.body).toMatchObject({ code: 'unavailable' });
  }, 10_000);

  test('of a node that is just coming back', async () => {
    await put(replica('web-1', 'n1'));
    const asking = world.api.call('GET', '/v1/replicas/web-1/logs');
    await new Promise((resolve) => setTimeout(resolve, 20));
    const node = await connectNode('n1', () => give(line('web-1', 1, 'here')));
    expect((await asking).text).toBe('here\n');
    node.close();
  });

  test('followed: each line as it comes; the node is let go when the reader goes', async () => {
    await put(replica('web-1', 'n1'));
    let write: (one: LogLine) => void = () => undefined;
    let isLetGo = false;
    const node = await connectNode('n1', () =>
      (async function* () {
        try {
          for (let count = 0; ; count += 1) {
            yield await new Promise<LogLine>((resolve) => {
              write = resolve;
              // The node notices that it was cut off when it writes.
              setTimeout(() => resolve(line('web-1', count, `tick ${count}`)), 20);
            });
          }
        } finally {
          isLetGo = true;
        }
      })(),
    );
    const following = await open('/v1/replicas/web-1/logs?follow=true');
    await eventually(() => write(line('web-1', 1, 'first')), { intervalMs: 1 });
    await eventually(() => expect(following.text()).toContain('tick'), { intervalMs: 5 });
    following.response.destroy();
    await eventually(() => expect(isLetGo).toBe(true), { intervalMs: 5 });
    node.close();
  });
});

describe('of a microservice', () => {
  const web = microserviceDocuments(buildMicroservice('web'));

  test('are merged by time, each line with its origin', async () => {
    await put(web, replica('web-1', 'n1'), replica('web-2', 'n2'));
    const first = await connectNode('n1', () => give(line('web-1', 1, 'a'), line('web-1', 4, 'd')));
    const second = await connectNode('n2', () => give(line('web-2', 2, 'b'), line('web-2', 3, 'c')));
    expect((await world.api.call('GET', '/v1/microservices/web/logs')).text).toBe(
      'web-1/app | a\nweb-2/app | b\nweb-2/app | c\nweb-1/app | d\n',
    );
    expect((await world.api.call('GET', '/v1/microservices/web/logs?replica=web-2')).text).toBe('b\nc\n');
    first.close();
    second.close();
  });

  test('one node that does not answer does not keep the others back', async () => {
    await put(web, replica('web-1', 'n1'), replica('web-2', 'n2'));
    const node = await connectNode('n1', () => give(line('web-1', 1, 'a')));
    const { text, status } = await world.api.call('GET', '/v1/microservices/web/logs');
    expect(status).toBe(200);
    expect(text).toContain('web-1/app | a\n');
    expect(text).toContain('-- web-2: The node n2 is not connected');
    node.close();
  }, 10_000);

  test('without replicas are empty', async () => {
    await put(web);
    const { text, status } = await world.api.call('GET', '/v1/microservices/web/logs');
    expect({ text, status }).toEqual({ text: '', status: 200 });
  });

  test('followed: replicas that come later join, from their first line on', async () => {
    await put(web, replica('web-1', 'n1'), nodeDocument('n1'));
    const node = await connectNode('n1', (wanted) =>
      give(line(wanted.replicaId, 1, `I am ${wanted.replicaId}`)),
    );
    const following = await open('/v1/microservices/web/logs?follow=1&tail=1');
    await eventually(() => expect(following.text()).toBe('web-1/app | I am web-1\n'), { intervalMs: 5 });
    expect(following.isEnded()).toBe(false);
    await put(replica('web-2', 'n1'));
    await eventually(() => expect(following.text()).toContain('web-2/app | I am web-2\n'), { intervalMs: 5 });
    expect(node.requests).toMatchObject([{ tail: 1 }, { replicaId: 'web-2' }]);
    expect(node.requests[1]).not.toHaveProperty('tail');
    following.response.destroy();
    node.close();
  });
});

describe('the stream of a node', () => {
  test('is shown with the node, and the newest one counts', async () => {
    await put(nodeDocument('n1'));
    const connected = async () =>
      ((await world.api.call('GET', '/v1/nodes/n1')).body as { connected: boolean }).connected;
    expect(await connected()).toBe(false);
    const first = await connectNode('n1', () => give());
    expect(await connected()).toBe(true);
    const second = await connectNode('n1', () => give());
    first.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await connected()).toBe(true);
    second.close();
    await eventually(async () => expect(await connected()).toBe(false), { intervalMs: 5 });
  });

  test('an answer that nobody waits for is refused', async () => {
    const answer = await httpRequest(`${world.api.url}${nodeStreamPath('unknown')}`, {
      method: 'POST',
      headers: auth,
      body: 'x',
    });
    expect(answer.status).toBe(404);
  });
});
