/** Certificates that people have brought. */

import { covers, reliedOn } from '../../../../domain/certificates/relied-on';

test('a wildcard is good for one label more', () => {
  expect(covers(['*.example.com'], 'a.example.com')).toBe(true);
  expect(covers(['*.example.com'], 'a.b.example.com')).toBe(false);
  expect(covers(['*.example.com'], '*.example.com')).toBe(true);
  expect(covers(['*.example.com'], 'example.com')).toBe(false);
  expect(covers(['*.b.example.com'], '*.a.b.example.com')).toBe(false);
});

describe('what is relied on', () => {
  const DAY_MS = 86_400_000;
  const NOW_MS = 1_000 * DAY_MS;
  const brought = (id: string, days: number, more: object = {}) => ({
    id,
    hostnames: ['*.example.com'],
    source: 'uploaded' as const,
    notBeforeMs: NOW_MS - DAY_MS,
    notAfterMs: NOW_MS + days * DAY_MS,
    ...more,
  });
  const idOf = (...certificates: readonly ReturnType<typeof brought>[]) =>
    reliedOn(certificates, 'a.example.com', NOW_MS)?.id;

  test('is the one that lasts longest', () => {
    expect(idOf(brought('short', 60), brought('long', 90), brought('shorter', 30))).toBe('long');
  });

  test.each([
    ['of an authority', brought('x', 90, { source: 'acme' })],
    ['for other names', brought('x', 90, { hostnames: ['example.com'] })],
    ['not valid yet', brought('x', 90, { notBeforeMs: NOW_MS + 1 })],
    ['at its end', brought('x', 0)],
    ['near its end', brought('x', 6, { notBeforeMs: NOW_MS - 90 * DAY_MS })],
  ])('is none that is %s', (_what, certificate) => {
    expect(idOf(certificate)).toBeUndefined();
    expect(idOf(certificate, brought('good', 60))).toBe('good');
  });
});
