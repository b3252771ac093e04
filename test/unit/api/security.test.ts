/** Who is let in: passwords, rate limit, Host and Origin, headers, and what is never logged. */

import {
  createAttemptLimiter,
  FAILURES_PER_MINUTE,
  LOOPBACK_FAILURES_PER_MINUTE,
} from '../../../api/attempt-limiter';
import { hostnameOf } from '../../../api/security';
import { httpRequest } from '../../support/http';

import { PASSWORD, TOKEN, startApi, useApi, type ApiUnderTest } from './api-under-test';

const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

describe('the password', () => {
  const world = useApi();
  const statusWith = async (path: string, headers: Record<string, string> = {}) =>
    (await httpRequest(`${world.api.url}${path}`, { headers })).status;

  test.each([
    ['as a query', `/v1/nodes?password=${PASSWORD}`, {}],
    ['as Bearer', '/v1/nodes', { authorization: `Bearer ${PASSWORD}` }],
    ['as bearer in small letters', '/v1/nodes', { authorization: `bearer ${PASSWORD}` }],
    ['as Basic', '/v1/nodes', { authorization: basic('anybody', PASSWORD) }],
    ['as Basic without a user', '/v1/nodes', { authorization: basic('', PASSWORD) }],
  ])('is taken %s', async (_how, path, headers) => {
    expect(await statusWith(path, headers)).toBe(200);
  });

  test.each([
    ['none', '/v1/nodes', {}],
    ['a wrong query', '/v1/nodes?password=wrong', {}],
    ['an empty query', '/v1/nodes?password=', {}],
    ['a wrong Bearer', '/v1/nodes', { authorization: 'Bearer wrong' }],
    ['the beginning of it', '/v1/nodes', { authorization: `Bearer ${PASSWORD.slice(0, -1)}` }],
    ['the token of nodes', '/v1/nodes', { authorization: `Bearer ${TOKEN}` }],
    ['as the user of Basic', '/v1/nodes', { authorization: basic(PASSWORD, '') }],
    ['an unknown scheme', '/v1/nodes', { authorization: `Digest ${PASSWORD}` }],
    ['none for metrics', '/metrics', {}],
    ['none for what is not there', '/v1/nothing', {}],
    ['none for a wrong method', '/v1/nodes', {}],
  ])('%s is 401', async (_what, path, headers) => {
    const answer = await httpRequest(`${world.api.url}${path}`, { headers });
    expect(answer.status).toBe(401);
    expect(answer.headers['www-authenticate']).toMatch(/^Basic/);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.body).toMatchObject({ code: 'unauthenticated', status: 401 });
  });

  test.each(['/', '/healthz', '/readyz', '/openapi.json'])('%s needs none', async (path) => {
    expect(await statusWith(path)).toBe(200);
  });

  test('of people does not open what is for nodes, and the token does', async () => {
    const path = '/internal/v1/streams/unknown';
    const send = (secret: string) =>
      httpRequest(`${world.api.url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${secret}` },
        body: '',
      });
    expect((await send(PASSWORD)).status).toBe(401);
    expect((await send(TOKEN)).status).toBe(404);
  });

  test('is never logged, nor is the query', async () => {
    await statusWith(`/v1/nodes?password=${PASSWORD}`);
    await statusWith('/v1/nodes?password=secret-guess');
    await statusWith(`/v1/none?password=${PASSWORD}`);
    await world.api.call('POST', `/v1/microservices?password=${PASSWORD}`, { body: '{' });
    const log = world.api.logged.join('');
    expect(log).toContain('/v1/nodes');
    expect(log).not.toContain(PASSWORD);
    expect(log).not.toContain('secret-guess');
  });
});

describe('guessing', () => {
  test('is slowed down, also for the right password, and goes on later', async () => {
    let nowMs = 1_000_000;
    const api = await startApi({ nowMs: () => nowMs });
    try {
      for (let guess = 0; guess < LOOPBACK_FAILURES_PER_MINUTE; guess += 1) {
        expect((await api.call('GET', '/v1/nodes', { password: `guess-${guess}` })).status).toBe(401);
      }
      const limited = await api.call('GET', '/v1/nodes', { password: 'one more' });
      expect(limited.status).toBe(429);
      expect(limited.body).toMatchObject({ code: 'rate_limited', retryable: true });
      expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0);
      expect((await api.call('GET', '/v1/nodes')).status).toBe(429);
      nowMs += 1_000;
      expect((await api.call('GET', '/v1/nodes')).status).toBe(200);
    } finally {
      await api.close();
    }
  });

  test('requests without a password are no guesses', async () => {
    const api = await startApi({ nowMs: () => 1 });
    try {
      for (let count = 0; count < LOOPBACK_FAILURES_PER_MINUTE + 5; count += 1) {
        await api.call('GET', '/v1/nodes', { password: null });
      }
      expect((await api.call('GET', '/v1/nodes')).status).toBe(200);
    } finally {
      await api.close();
    }
  });

  test('counts by address, a network of IPv6 as one, and forgets in time', () => {
    const limiter = createAttemptLimiter();
    for (let count = 0; count < FAILURES_PER_MINUTE; count += 1) {
      expect(limiter.waitMs('10.0.0.1', 0)).toBe(0);
      limiter.failed('10.0.0.1', 0);
      limiter.failed(`2001:db8:1:2::${count + 1}`, 0);
    }
    expect(limiter.waitMs('10.0.0.1', 0)).toBe(6_000);
    expect(limiter.waitMs('::ffff:10.0.0.1', 0)).toBe(6_000);
    expect(limiter.waitMs('10.0.0.2', 0)).toBe(0);
    expect(limiter.waitMs('2001:db8:1:2:ffff::1', 0)).toBe(6_000);
    expect(limiter.waitMs('2001:db8:1:3::1', 0)).toBe(0);
    expect(limiter.waitMs('10.0.0.1', 6_000)).toBe(0);
  });

  test('keeps a bounded number of addresses, the one that is failing among them', () => {
    const limiter = createAttemptLimiter();
    for (let count = 0; count < FAILURES_PER_MINUTE; count += 1) limiter.failed('10.0.0.1', 0);
    for (let count = 0; count < 20_000; count += 1) {
      limiter.failed(`11.${count >> 16}.${(count >> 8) & 255}.${count & 255}`, 0);
      if (count % 5_000 === 0) limiter.failed('10.0.0.1', 0);
    }
    expect(limiter.waitMs('10.0.0.1', 0)).toBeGreaterThan(0);
  });
});

describe('foreign web pages', () => {
  const world = useApi();
  const ask = (headers: Record<string, string>, method = 'GET') =>
    httpRequest(`${world.api.url}/v1/nodes?password=${PASSWORD}`, { method, headers });

  test.each([
    ['localhost', true],
    ['LOCALHOST:1234', true],
    ['127.0.0.1', true],
    ['[::1]:8000', true],
    ['api.example.com', true],
    ['api.example.com.', true],
    ['evil.example.com', false],
    ['api.example.com.evil.com', false],
    ['127.0.0.1.nip.io', false],
    ['10.9.8.7', false],
    ['localhost@evil.com', false],
  ])('Host %s: %s', async (host, isAllowed) => {
    const answer = await ask({ host });
    expect(answer.status).toBe(isAllowed ? 200 : 403);
    if (!isAllowed) expect(answer.body).toMatchObject({ code: 'forbidden' });
  });

  test('the address that was dialled is allowed', async () => {
    expect(
      (await httpRequest(`${world.api.url}/`, { headers: { host: `127.0.0.1:${world.api.port}` } })).status,
    ).toBe(200);
  });

  test.each([
    ['http://localhost:8000', 'localhost:8000', true],
    ['https://localhost:8000', 'localhost:8000', true],
    ['http://localhost', 'localhost:80', true],
    ['http://localhost:3000', 'localhost:8000', false],
    ['http://evil.com', 'localhost:8000', false],
    ['null', 'localhost:8000', false],
    ['file://', 'localhost:8000', false],
    ['chrome-extension://abc', 'localhost:8000', false],
  ])('Origin %s for Host %s: %s', async (origin, host, isAllowed) => {
    expect((await ask({ host, origin })).status).toBe(isAllowed ? 200 : 403);
  });

  test.each([
    ['cross-site', 'no-cors', 'GET', 403],
    ['same-site', 'cors', 'GET', 403],
    ['cross-site', 'navigate', 'GET', 200],
    ['cross-site', 'navigate', 'POST', 403],
    ['same-origin', 'cors', 'GET', 200],
    ['none', 'navigate', 'GET', 200],
  ])('Sec-Fetch-Site %s, mode %s, %s: %d', async (site, mode, method, status) => {
    const headers = { 'sec-fetch-site': site, 'sec-fetch-mode': mode };
    expect((await ask(headers, method)).status).toBe(status);
  });

  test('are refused before the password is looked at, and on open paths too', async () => {
    const answer = await httpRequest(`${world.api.url}/`, { headers: { origin: 'http://evil.com' } });
    expect(answer.status).toBe(403);
  });

  test.each([
    ['localhost', 'localhost'],
    ['[::1]:80', '::1'],
    ['a.b:80', 'a.b'],
    ['a b', undefined],
    ['a:b', undefined],
    ['a/b', undefined],
    ['[::1', undefined],
  ])('hostname of %s is %s', (host, hostname) => {
    expect(hostnameOf(host)).toBe(hostname);
  });
});

describe('headers', () => {
  const world = useApi();
  const expectSafe = (headers: Awaited<ReturnType<ApiUnderTest['call']>>['headers']) => {
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
    });
    expect(headers['content-security-policy']).toContain("default-src 'none'");
    expect(headers['x-powered-by']).toBeUndefined();
  };

  test('are on every answer', async () => {
    expectSafe((await world.api.call('GET', '/v1/nodes')).headers);
    expectSafe((await world.api.call('GET', '/v1/none')).headers);
    expectSafe((await world.api.call('GET', '/v1/nodes', { password: null })).headers);
  });

  test('a request id comes back, or is made', async () => {
    const given = await world.api.call('GET', '/v1/nodes', { headers: { 'x-request-id': 'abc-1' } });
    expect(given.headers['x-request-id']).toBe('abc-1');
    const made = await world.api.call('GET', '/v1/none', { headers: { 'x-request-id': 'a b<script>' } });
    expect(made.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(made.body).toMatchObject({ requestId: made.headers['x-request-id'] });
  });
});
