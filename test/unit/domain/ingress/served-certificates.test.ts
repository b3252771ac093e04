// Which certificate a name is answered with, and what is redirected.
import * as fc from 'fast-check';

import {
  isPlainHostname,
  servedCertificates,
  type ServedCertificate,
} from '../../../../domain/ingress/served-certificates';

const NOW = 1_000_000;

const certificate = (
  fingerprint: string,
  hostnames: readonly string[],
  more: Partial<ServedCertificate> = {},
): ServedCertificate => ({
  hostname: hostnames[0] ?? '',
  hostnames,
  source: 'acme',
  notBeforeMs: NOW - 1,
  notAfterMs: NOW + 1_000,
  updatedAtMs: NOW,
  fingerprint,
  ...more,
});

const exactOf = (name: string, ...certificates: readonly ServedCertificate[]): string | undefined => {
  const { exact } = servedCertificates(certificates, NOW);
  const reversed = servedCertificates([...certificates].reverse(), NOW);
  expect(reversed.exact.get(name)).toBe(exact.get(name));
  return exact.get(name)?.fingerprint;
};

const A = 'a.example.com';
const EXPIRED = { notAfterMs: NOW };
const EARLY = { notBeforeMs: NOW + 1 };

test.each<readonly [string, ServedCertificate, ServedCertificate]>([
  ['valid before expired', certificate('1', [A]), certificate('2', [A], { ...EXPIRED, source: 'uploaded' })],
  ['valid before early', certificate('1', [A]), certificate('2', [A], { ...EARLY, source: 'uploaded' })],
  ['uploaded before public', certificate('1', [A], { source: 'uploaded' }), certificate('2', [A])],
  ['public before internal', certificate('1', [A]), certificate('2', [A], { source: 'internal' })],
  ['that of the name', certificate('1', [A]), certificate('2', ['b.example.com', A])],
  ['the longer one', certificate('1', [A], { notAfterMs: NOW + 2_000 }), certificate('2', [A])],
  ['the newer one', certificate('1', [A], { updatedAtMs: NOW + 1 }), certificate('2', [A])],
])('%s', (_what, better, worse) => {
  expect(exactOf(A, better, worse)).toBe('1');
});

test.each<readonly [string, Partial<ServedCertificate>, Partial<ServedCertificate>, string | undefined]>([
  ['the very name before a wildcard', {}, {}, 'own'],
  ['a valid wildcard before what is expired', EXPIRED, {}, undefined],
  ['an uploaded wildcard before one of an authority', {}, { source: 'uploaded' }, undefined],
  ['the very name, when both are expired', EXPIRED, EXPIRED, 'own'],
])('%s', (_what, own, wide, expected) => {
  const all = [certificate('own', [A], own), certificate('wide', ['*.example.com'], wide)];
  expect(exactOf(A, ...all)).toBe(expected);
  expect(servedCertificates(all, NOW).wildcard.get('example.com')?.fingerprint).toBe('wide');
});

test('only public names with what clients can trust now are redirected', () => {
  const all = [
    certificate('1', [A, '*.example.com']),
    certificate('2', ['inner.example.org'], { source: 'internal' }),
    certificate('3', ['late.example.org'], EXPIRED),
    certificate('4', ['git.internal', '*.localhost'], { source: 'uploaded' }),
  ];
  const { redirectedExact, redirectedWildcard } = servedCertificates(all, NOW);
  expect([...redirectedExact]).toEqual([A]);
  expect([...redirectedWildcard]).toEqual(['example.com']);
});

test('it says when it has to be decided again', () => {
  expect(servedCertificates([], NOW).untilMs).toBeUndefined();
  expect(servedCertificates([certificate('1', [A], EXPIRED)], NOW).untilMs).toBeUndefined();
  expect(
    servedCertificates(
      [certificate('1', [A]), certificate('2', [A], { notBeforeMs: NOW + 5, notAfterMs: NOW + 9 })],
      NOW,
    ).untilMs,
  ).toBe(NOW + 5);
});

test.each(['..', '.', '', 'a..b', 'a/b', '*', '*.a', 'A.b', 'a b', 'a.', '.a', 'a\n', 'x'.repeat(254)])(
  '%j is no name of a file',
  (text) => {
    expect(isPlainHostname(text)).toBe(false);
    const served = servedCertificates([certificate('1', [text, `*.${text}`])], NOW);
    expect([...served.exact.keys(), ...served.wildcard.keys()].filter((name) => name === text)).toEqual([]);
  },
);

test('whatever there is, a name that has a valid certificate is answered with a valid one', () => {
  const some = fc.record({
    hostnames: fc.uniqueArray(fc.constantFrom(A, 'b.example.com', '*.example.com', 'example.com'), {
      minLength: 1,
    }),
    source: fc.constantFrom('internal', 'acme', 'uploaded'),
    notBeforeMs: fc.integer({ min: NOW - 3, max: NOW + 3 }),
    notAfterMs: fc.integer({ min: NOW - 3, max: NOW + 3 }),
    updatedAtMs: fc.nat(),
    fingerprint: fc.uuid(),
  });
  const isValid = (one: ServedCertificate): boolean => one.notBeforeMs <= NOW && NOW < one.notAfterMs;
  fc.assert(
    fc.property(fc.array(some, { maxLength: 8 }), (rows) => {
      const all = rows.map((row): ServedCertificate => ({ ...row, hostname: row.hostnames[0] ?? '' }));
      const { exact, wildcard } = servedCertificates(all, NOW);
      for (const name of [A, 'b.example.com']) {
        const covering = all.filter(
          ({ hostnames }) => hostnames.includes(name) || hostnames.includes('*.example.com'),
        );
        const answered = exact.get(name) ?? wildcard.get('example.com');
        expect(answered !== undefined).toBe(covering.length > 0);
        if (answered !== undefined) expect(isValid(answered)).toBe(covering.some(isValid));
      }
    }),
  );
});
