import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

import {
  createAuthority,
  createSigningRequest,
  openAuthority,
} from '../../../../adapters/certificates/authority';
import { askRenewalInfo, renewalId, renewalIdOf } from '../../../../adapters/acme/renewal-info';

test('a certificate is named as RFC 9773 has it', () => {
  // The example of its section 4.1.
  expect(renewalId('69885b6b87464041e1b37b847ba0ae2cde01c8d4', '87654321')).toBe(
    'aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE',
  );
  expect(renewalId('01', '7f')).toBe('AQ.fw');
  expect(renewalId('01', '123')).toBe('AQ.ASM');
});

test('the name is read from the certificate', async () => {
  const nowMs = Date.now();
  const made = await createAuthority({ clusterId: 'c', nowMs });
  const authority = await openAuthority(made);
  const { signingRequestPem } = await createSigningRequest('a');
  const { certificatePem, serial } = await authority.issueNodeCertificate({
    clusterId: 'c',
    nodeId: 'a',
    signingRequestPem,
    nowMs,
  });
  const [key, number] = (await renewalIdOf(certificatePem))?.split('.') ?? [];
  expect(Buffer.from(key ?? '', 'base64url')).toHaveLength(20);
  expect(
    Buffer.from(number ?? '', 'base64url')
      .toString('hex')
      .replace(/^00/, ''),
  ).toBe(serial.replace(/^0+/, '').padStart(serial.length % 2 === 0 ? serial.length : 0, '0'));
  // What signs itself names nobody else's key.
  expect(await renewalIdOf(made.certificatePem)).toBeUndefined();
});

describe('the answer', () => {
  let answer: { readonly status: number; readonly headers: Record<string, string>; readonly body: string };
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    response.writeHead(answer.status, answer.headers);
    response.end(answer.body);
  });
  let url: string;
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/renewal`;
  });
  afterAll(() => {
    server.close();
    server.closeAllConnections();
  });

  const WINDOW = { start: '2030-01-01T00:00:00Z', end: '2030-01-02T00:00:00Z' };
  const NOW_MS = Date.UTC(2029, 0, 1);
  const give = (body: unknown, headers: Record<string, string> = {}, status = 200) => {
    answer = { status, headers, body: typeof body === 'string' ? body : JSON.stringify(body) };
    return askRenewalInfo(url, 'a.b', NOW_MS);
  };

  test('has a window, an explanation and when to ask again, within bounds', async () => {
    const info = await give(
      { suggestedWindow: WINDOW, explanationURL: 'https://example.com/why' },
      { 'retry-after': '7200' },
    );
    expect(asked.at(-1)).toBe('/renewal/a.b');
    expect(info).toEqual({
      window: { startMs: Date.UTC(2030, 0, 1), endMs: Date.UTC(2030, 0, 2) },
      explanationUrl: 'https://example.com/why',
      askAgainAtMs: NOW_MS + 7_200_000,
    });
    expect((await give({ suggestedWindow: WINDOW }, { 'retry-after': '1' }))?.askAgainAtMs).toBe(
      NOW_MS + 60_000,
    );
    expect((await give({ suggestedWindow: WINDOW }, { 'retry-after': '9999999' }))?.askAgainAtMs).toBe(
      NOW_MS + 86_400_000,
    );
    expect((await give({ suggestedWindow: WINDOW }))?.askAgainAtMs).toBe(NOW_MS + 21_600_000);
  });

  test.each([
    ['no JSON', 'no', 200],
    ['null', 'null', 200],
    ['nothing', {}, 200],
    [
      'a window that ends before it begins',
      { suggestedWindow: { start: WINDOW.end, end: WINDOW.start } },
      200,
    ],
    ['times that are none', { suggestedWindow: { start: 'x', end: 'y' } }, 200],
    ['an unknown certificate', { type: 'x' }, 404],
  ])('%s is no answer', async (_what, body, status) => {
    expect(await give(body, {}, status)).toBeUndefined();
  });
});
