import { failureOf, mayAnotherAuthorityDo, timeText } from '../../../../domain/certificates/acme-problem';

const type = (name: string) => `urn:ietf:params:acme:error:${name}`;
const CONTEXT = { authority: 'acme.example', what: 'order a certificate for shop.example.com' };

test.each([
  ['rateLimited', 'rate_limited', true],
  ['caa', 'caa', true],
  ['rejectedIdentifier', 'refused', true],
  ['serverInternal', 'authority', true],
  ['externalAccountRequired', 'account', true],
  ['malformed', 'order', true],
  ['badCSR', 'internal', false],
  ['dns', 'pointing', false],
  ['connection', 'pointing', false],
  ['incorrectResponse', 'pointing', false],
])('%s is %s, and another authority may do it: %s', (name, kind, elsewhere) => {
  const failure = failureOf({ type: type(name), detail: 'so it is' }, CONTEXT);
  expect(failure.kind).toBe(kind);
  expect(mayAnotherAuthorityDo(failure.kind)).toBe(elsewhere);
  expect(failure.message).toMatch(
    new RegExp(`^acme.example did not order a certificate for shop.example.com: ${name}: so it is\\.`),
  );
});

test('a challenge is named, and what the parts of a problem say is told once', () => {
  expect(
    failureOf(
      {
        type: type('unauthorized'),
        detail: 'Invalid response from 203.0.113.7: 404',
        subproblems: [
          { type: type('unauthorized'), detail: 'Invalid response from 203.0.113.7: 404' },
          { type: type('dns'), detail: 'no AAAA' },
        ],
      },
      { ...CONTEXT, challenge: 'http-01' },
    ),
  ).toEqual({
    kind: 'pointing',
    message:
      'acme.example did not order a certificate for shop.example.com (challenge http-01): unauthorized: Invalid response from 203.0.113.7: 404; no AAAA. Something else answers for the hostname: have all of its A and AAAA records lead to nodes of this cluster, and to nothing else.',
  });
});

test('without a challenge, unauthorized is said of an order', () => {
  expect(failureOf({ type: type('unauthorized'), detail: 'not yours' }, CONTEXT).kind).toBe('order');
});

test('too many requests are a limit, whatever the document says, and trouble of the server is its own', () => {
  const retryAtMs = Date.UTC(2030, 0, 1);
  expect(failureOf({ type: 'about:blank', detail: '', status: 429 }, { ...CONTEXT, retryAtMs })).toEqual({
    kind: 'rate_limited',
    message:
      'acme.example did not order a certificate for shop.example.com: about:blank: it gave no detail. It wants to be asked again after 2030-01-01T00:00:00Z.',
    notBeforeMs: retryAtMs,
  });
  expect(failureOf({ type: 'about:blank', detail: 'x', status: 502 }, CONTEXT).kind).toBe('authority');
  expect(failureOf({ type: 'about:blank', detail: 'x', status: 403 }, CONTEXT).kind).toBe('refused');
});

test('times are told to the second', () => {
  expect(timeText(Date.UTC(2030, 0, 2, 3, 4, 5, 678))).toBe('2030-01-02T03:04:05Z');
});
