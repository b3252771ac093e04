/** Join tokens over HTTP. */

import { parseJoinToken } from '../../../domain/join-token';

import { useApi } from './api-under-test';

describe('an installation that others can reach', () => {
  const world = useApi({ clusterAddress: '192.0.2.1:7443' });

  test('a token is made, shown once, listed without its secret, and revoked', async () => {
    const made = await world.api.call('POST', '/v1/join-tokens', {
      body: { uses: 2, expiresInSeconds: 60 },
    });
    expect(made.status).toBe(201);
    const { id, token, command } = JSON.parse(made.text) as Record<string, string>;
    expect(command).toBe(`containeros join 192.0.2.1:7443 --token ${token}`);
    const { secret } = parseJoinToken(token ?? '');
    const listed = await world.api.call('GET', '/v1/join-tokens');
    expect(JSON.parse(listed.text)).toMatchObject({ items: [{ id, usesLeft: 2, usedBy: [] }] });
    expect(listed.text).not.toMatch(/secret/i);
    expect(listed.text + world.api.logged.join('')).not.toContain(secret);
    expect((await world.api.call('DELETE', `/v1/join-tokens/${id}`)).status).toBe(204);
    expect((await world.api.call('DELETE', `/v1/join-tokens/${id}`)).status).toBe(204);
    expect((await world.api.call('GET', '/v1/join-tokens')).text).toContain('revokedAt');
  });

  test('an empty body takes the defaults', async () => {
    const made = await world.api.call('POST', '/v1/join-tokens');
    expect(JSON.parse(made.text)).toMatchObject({ uses: 1 });
  });

  test.each([{ uses: 0 }, { uses: 1_001 }, { expiresInSeconds: 0 }, { expiresInSeconds: 1e9 }, { use: 1 }])(
    '%j is refused',
    async (body) => {
      expect((await world.api.call('POST', '/v1/join-tokens', { body })).status).toBe(400);
      expect(world.api.store.peek('')).toEqual([]);
    },
  );

  test('the password is needed', async () => {
    expect((await world.api.call('POST', '/v1/join-tokens', { password: null })).status).toBe(401);
    expect((await world.api.call('GET', '/v1/join-tokens', { password: null })).status).toBe(401);
  });

  test('what is not there is not found', async () => {
    expect((await world.api.call('DELETE', '/v1/join-tokens/aaaaaaaa')).status).toBe(404);
  });
});

describe('an installation that no other machine can reach', () => {
  const world = useApi();

  test('makes no tokens, and says why', async () => {
    const answer = await world.api.call('POST', '/v1/join-tokens');
    expect(answer.status).toBe(409);
    expect(answer.text).toMatch(/No machine can join: others do not reach this one\./);
  });
});
