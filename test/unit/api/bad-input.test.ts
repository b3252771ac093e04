/** What cannot be understood is told so, with its place, and nothing is changed: no change is faked here. */

import { request } from 'node:http';

import { ContainerOsError } from '../../../domain/errors';

import { buildMicroservice, microserviceDocuments, startApi, useApi } from './api-under-test';
import { httpRequest } from '../../support/http';

const world = useApi();
const good = { name: 'web', containers: { app: { image: 'nginx:1.27' } } };
const post = (body: unknown, headers: Record<string, string> = {}) =>
  world.api.call('POST', '/v1/microservices', { body, headers });

afterEach(() => {
  // A change that was tried would have thrown "not faked".
  expect(world.api.logged.join('')).not.toContain('not faked');
});

describe('JSON', () => {
  test.each([
    ['{"name": }', 'line 1, column 10'],
    ['{"name": "web",\n "scale": 1,}', 'line 2, column 13'],
    ["{'name': 1}", 'line 1, column 2'],
    ['{"a": 1} x', 'line 1, column 10'],
    ['', 'empty'],
    ['{"a": "', 'line 1, column 7'],
    ['{"a": "\n"}', 'line 1, column 8'],
    ['{"a": "\\x"}', 'line 1, column 8'],
    ['{"a": 01}', 'line 1, column 8'],
    ['{"a": .5}', 'line 1, column 7'],
    ['{"a": NaN}', 'line 1, column 7'],
    ['{"a" 1}', 'line 1, column 6'],
    ['[1 2]', 'line 1, column 4'],
    ['{"a": 1', 'line 1, column 8'],
    ['{"name": "web", "name": "other"}', 'second time'],
    ['\u{1F600}', 'line 1, column 1'],
  ])('%j is refused: %s', async (body, where) => {
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(JSON.stringify(answer.body)).toContain(where);
  });

  test.each(['[]', '"text"', '1', 'null', 'true'])('%s is no body of a request without one', async (body) => {
    const answer = await world.api.call('POST', '/v1/microservices/hello/restart', {
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid' } });
  });

  test.each(['[]', '"text"', '1', 'null', 'true'])('%s is no specification', async (body) => {
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: 'invalid' });
  });

  test('nesting has a limit', async () => {
    const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
    expect(JSON.stringify((await post(deep(65))).body)).toContain('deeper than 64');
    expect(JSON.stringify((await post(deep(500_000 - 1))).body)).toContain('deeper than 64');
    expect((await post(`{"name": ${deep(60)}}`)).status).toBe(400);
  });

  test.each(['__proto__', 'constructor', 'prototype'])('the key %s changes nothing', async (key) => {
    const answer = await post(
      `{"name": "web", "${key}": {"polluted": true}, "containers": {"a": {"image": "x"}}}`,
    );
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ problems: [{ path: `/${key}` }] });
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test('not UTF-8', async () => {
    const body = Buffer.concat([Buffer.from('{"name": "'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    const answer = await httpRequest(`${world.api.url}/v1/microservices?password=right-password`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ detail: 'The body is not valid UTF-8.' });
  });
});

describe('the body', () => {
  test('may have a megabyte', async () => {
    const answer = await post(JSON.stringify({ ...good, padding: 'x'.repeat(1_000_001) }));
    expect(answer.status).toBe(413);
    expect(answer.body).toMatchObject({ code: 'too_large' });
  });

  test('is counted also when it does not say how long it is', async () => {
    const status = await new Promise<number>((resolve, reject) => {
      const outgoing = request(`${world.api.url}/v1/microservices?password=right-password`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
      });
      outgoing.on('response', (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      outgoing.on('error', reject);
      for (let sent = 0; sent < 30; sent += 1) outgoing.write('x'.repeat(65_536));
      outgoing.end();
    });
    expect(status).toBe(413);
  });

  test.each([
    ['text/plain', 415],
    ['application/xml', 415],
    ['multipart/form-data; boundary=x', 415],
    ['application/json; charset=latin1', 415],
    ['application/jsonx', 415],
    ['application/json; charset=utf-8', 403],
    ['application/vnd.api+json', 403],
    ['application/x-www-form-urlencoded', 403],
  ])('of type %s: %d', async (type, status) => {
    // A specification that is understood and then not allowed: no change is asked for.
    const body = { ...good, hostNetwork: true };
    expect((await post(body, { 'content-type': type })).status).toBe(status);
  });

  test('without a type is taken for JSON when it is an object, and no page has sent it', async () => {
    const body = JSON.stringify({ ...good, hostNetwork: true });
    const send = (headers: Record<string, string>, text = body) =>
      httpRequest(`${world.api.url}/v1/microservice?password=right-password`, {
        method: 'POST',
        headers,
        body: text,
      });
    expect((await send({})).status).toBe(403);
    expect((await send({ 'content-type': 'application/x-www-form-urlencoded' }, 'name=web')).status).toBe(
      415,
    );
    const origin = { origin: world.api.url, 'content-type': 'application/x-www-form-urlencoded' };
    expect((await send(origin)).status).toBe(415);
  });

  test('must not be compressed', async () => {
    expect((await post(good, { 'content-encoding': 'gzip' })).status).toBe(415);
  });
});

describe('a specification', () => {
  test('is told all its problems at once, each with its place', async () => {
    const answer = await post({
      name: '-x',
      scale: -1,
      contaners: {},
      containers: { app: { image: 'NOT AN IMAGE', ports: [0, 70_000] } },
    });
    expect(answer.status).toBe(400);
    const { problems } = answer.body as { problems: { path: string }[] };
    expect(problems.map(({ path }) => path)).toEqual(
      expect.arrayContaining([
        '/name',
        '/scale',
        '/contaners',
        '/containers/app/image',
        '/containers/app/ports/0',
      ]),
    );
    expect(JSON.stringify(problems)).toContain('containers');
  });

  test.each([
    ['privileged', { containers: { app: { image: 'nginx', privileged: true } } }],
    ['host path', { containers: { app: { image: 'nginx', volumes: [{ hostPath: '/', path: '/host' }] } } }],
    [
      'Docker socket',
      {
        containers: { app: { image: 'nginx', volumes: [{ hostPath: '/var/run/docker.sock', path: '/s' }] } },
      },
    ],
    ['host network', { hostNetwork: true, containers: { app: { image: 'nginx' } } }],
  ])('that asks for the host (%s) is forbidden', async (_what, rest) => {
    const answer = await post({ name: 'web', ...rest });
    expect(answer.status).toBe(403);
    expect(answer.body).toMatchObject({ code: 'forbidden' });
  });

  test('of another name than its path', async () => {
    const answer = await world.api.call('PUT', '/v1/microservices/other', { body: good });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ problems: [{ path: '/name' }] });
    const worse = await world.api.call('PUT', '/v1/microservices/other', { body: { ...good, scale: -1 } });
    expect(worse.body).toMatchObject({ problems: [{ path: '/name' }, { path: '/scale' }] });
  });
});

describe('parameters', () => {
  test.each([
    ['GET', '/v1/nodes?x=1'],
    ['GET', '/v1/nodes?watch=abc'],
    ['GET', '/v1/nodes?watch=-1'],
    ['GET', '/v1/nodes?timeout=5'],
    ['GET', '/v1/nodes?watch=1&watch=2'],
    ['GET', '/v1/nodes?watch=1&timeout=11m'],
    ['GET', '/v1/replicas?state=flying'],
    ['GET', '/v1/events?limit=many'],
    ['GET', '/v1/events?since=yesterday'],
    ['GET', '/v1/operations?kind=magic'],
    ['DELETE', '/v1/microservices/web?wait=soon'],
    ['DELETE', '/v1/microservices/web?wait=1000h'],
  ])('%s %s is 400', async (method, path) => {
    const answer = await world.api.call(method, path);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: 'invalid' });
  });

  test.each([
    ['/v1/events?limit=100000', 'limit must be a whole number from 1 to 99999.'],
    ['/v1/replicas/r/logs?tail=10000000', 'tail must be a whole number from 0 to 9999999.'],
    ['/v1/nodes?watch=1000000000000000', 'watch must be a whole number from 0 to 999999999999999.'],
    [
      '/v1/nodes?watch=1&timeout=1234567890s',
      'timeout must be a duration like 30, 30s, 500ms or 2m, with a number of 9 digits at most.',
    ],
    ['/v1/operations/o?wait[]=1', 'wait[] is not a known key; did you mean "wait"?'],
    ['/healthz?wait=1', 'wait is not a known key; known here: none.'],
  ])('%s says what may be there', async (path, words) => {
    const answer = await world.api.call('GET', path);
    expect(answer.status).toBe(400);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.body).toMatchObject({ detail: `The query is not valid: query parameter ${words}` });
  });

  test('a specification whose problem is a question ends with it', async () => {
    const answer = await post({ ...good, replicas: 2 });
    expect(answer.body).toMatchObject({
      detail: 'The specification is not valid: /replicas is not a known key; did you mean "scale"?',
    });
  });

  test.each([
    ['If-Match', 'abc'],
    ['If-Match', '"x"'],
    ['If-None-Match', '"1"'],
    ['Idempotency-Key', 'a b'],
    ['Idempotency-Key', 'x'.repeat(256)],
  ])('%s: %s is 400', async (name, value) => {
    expect(
      (await world.api.call('DELETE', '/v1/microservices/web', { headers: { [name]: value } })).status,
    ).toBe(400);
  });

  test.each([
    ['{"scale": "many"}', '/scale'],
    ['{"scale": -1}', '/scale'],
    ['{"scale": 1.5}', '/scale'],
    ['{"scale": 1e9}', '/scale'],
    ['{"scal": 1}', '/scal'],
    ['[]', ''],
  ])('PATCH %s is 400', async (body, path) => {
    const answer = await world.api.call('PATCH', '/v1/microservices/web', { body });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ problems: [{ path }] });
  });
});

describe('what is not there', () => {
  beforeEach(async () => {
    const index = world.api.kv.put(microserviceDocuments(buildMicroservice('hello')));
    await world.api.readModel.waitForIndex(index, 1_000);
  });

  test.each([
    ['/v1/microservices/helo', 'Did you mean hello?'],
    ['/v1/microservices/zzzzzz', 'There is no microservice zzzzzz.'],
    ['/v1/microservices/..%2f..%2fsecret', 'There is no microservice'],
    ['/v1/microservices/hello/releases/9', 'There is no release of hello 9'],
    ['/v1/replicas/none', 'There is no replica none.'],
    ['/v1/nodes/none', 'There is no node none.'],
    ['/v1/operations/none', 'There is no operation none.'],
    ['/v1/operations/deploy.default.hello.0123456789', 'There is no operation'],
    ['/v1/microservices/none/logs', 'There is no microservice none.'],
    ['/v1/replicas/none/logs', 'There is no replica none.'],
    ['/v1/microservices/hello/logs?replica=none', 'There is no replica none.'],
    ['/v2', '/openapi.json'],
    ['/favicon.ico', '/openapi.json'],
  ])('%s is 404: %s', async (path, detail) => {
    const answer = await world.api.call('GET', path);
    expect(answer.status).toBe(404);
    expect((answer.body as { detail: string }).detail).toContain(detail);
  });

  test.each([
    ['DELETE', '/v1/microservices', 'GET, HEAD, OPTIONS, POST'],
    ['POST', '/v1/microservices/hello', 'DELETE, GET, HEAD, OPTIONS, PATCH, PUT'],
    ['PUT', '/v1/nodes', 'GET, HEAD, OPTIONS'],
    ['POST', '/healthz', 'GET, HEAD, OPTIONS'],
    ['TRACE', '/v1/nodes', 'GET, HEAD, OPTIONS'],
    ['GET', '/v1/microservices/hello/restart', 'OPTIONS, POST'],
  ])('%s %s is 405', async (method, path, allow) => {
    const answer = await world.api.call(method, path);
    expect(answer.status).toBe(405);
    expect(answer.headers['allow']).toBe(allow);
    expect(answer.body).toMatchObject({ code: 'method_not_allowed', allowed: allow.split(', ') });
  });

  test('a path that cannot be decoded is 400', async () => {
    const answer = await world.api.call('GET', '/v1/microservices/%zz');
    expect(answer.status).toBe(400);
  });
});

describe('defects', () => {
  test('are told by an id only, which the log explains', async () => {
    const api = await startApi({
      changes: {
        remove: async () => {
          throw new Error('the secret reason');
        },
      },
    });
    try {
      const answer = await api.call('DELETE', '/v1/microservices/web');
      expect(answer.status).toBe(500);
      const { errorId } = answer.body as { errorId: string };
      expect(answer.text).not.toContain('secret');
      expect(answer.text).not.toContain('.ts');
      const line = api.logged.find((one) => one.includes(errorId));
      expect(line).toContain('the secret reason');
    } finally {
      await api.close();
    }
  });

  test('an error of the table keeps its code and its problems', async () => {
    const api = await startApi({
      changes: {
        remove: async () => {
          throw new ContainerOsError('conflict', 'No.', [{ path: '/name', message: 'is taken' }]);
        },
      },
    });
    try {
      const answer = await api.call('DELETE', '/v1/microservices/web');
      expect(answer.status).toBe(409);
      expect(answer.body).toMatchObject({
        detail: 'No.',
        problems: [{ path: '/name', message: 'is taken' }],
      });
    } finally {
      await api.close();
    }
  });
});
