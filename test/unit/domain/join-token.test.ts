import fc from 'fast-check';

import { formatJoinToken, parseJoinToken, whyUnusable } from '../../../domain/join-token';

const charsOf = (alphabet: string, minLength: number, maxLength = minLength) =>
  fc.string({ unit: fc.constantFrom(...alphabet), minLength, maxLength });

const LOWER = 'abcdefghijklmnopqrstuvwxyz';
const DIGITS = '0123456789';
const parts = fc.record({
  id: charsOf(LOWER + DIGITS, 8),
  secret: charsOf(`${LOWER}${LOWER.toUpperCase()}${DIGITS}-_`, 32, 64),
  authorityFingerprint: charsOf(`${DIGITS}abcdef`, 64),
});

test('what was formatted is parsed to the same parts, with blanks around it too', () => {
  fc.assert(
    fc.property(parts, charsOf(' \t\r\n', 0, 3), (given, blanks) => {
      expect(parseJoinToken(blanks + formatJoinToken(given) + blanks)).toEqual(given);
    }),
  );
});

test('no beginning of a token is one, and the reason is told in words and without the secret', () => {
  fc.assert(
    fc.property(parts, fc.double({ min: 0, max: 0.999, noNaN: true }), (given, share) => {
      const whole = formatJoinToken(given);
      const cut = whole.slice(0, Math.floor(whole.length * share));
      let message = '';
      try {
        parseJoinToken(cut);
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid' });
        ({ message } = error as Error);
      }
      expect(message).toMatch(/^The join token/);
      expect(message).not.toContain(given.secret.slice(0, 16));
    }),
  );
});

test('any other text is refused with a ContainerOsError, or is a token in its only form', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `cos1.${text}`),
      ),
      (text) => {
        try {
          expect(formatJoinToken(parseJoinToken(text))).toBe(text.trim());
        } catch (error) {
          expect(error).toMatchObject({ name: 'ContainerOsError', code: 'invalid' });
        }
      },
    ),
  );
});

const ID = 'abcd1234';
const SECRET = 'S'.repeat(32);
const FINGERPRINT = 'a'.repeat(64);

test.each([
  ['', 'it is empty'],
  ['cos1', 'it is cut off'],
  [`cos1.${ID}`, 'it is cut off'],
  [`cos1.${ID}.${SECRET}`, 'it is cut off'],
  [`cos1.${ID}.${SECRET}.`, 'it is cut off'],
  [`cos1.${ID}.${SECRET}.${FINGERPRINT.slice(1)}`, 'it is cut off'],
  [`cos1.${ID}.${SECRET}.${FINGERPRINT}a`, 'something after its end'],
  [`cos1.${ID}.${SECRET}.${FINGERPRINT}.x`, 'something after its end'],
  [`cos1.${ID}.${SECRET.slice(1)}.${FINGERPRINT}`, 'its secret is too short'],
  [`cos1.${ID}.${SECRET.repeat(5)}.${FINGERPRINT}`, 'its secret is too long'],
  [`cos1.${ID}.${SECRET}+.${FINGERPRINT}`, 'character that none can have'],
  [`cos1.ABCD1234.${SECRET}.${FINGERPRINT}`, 'its id is not 8 characters'],
  [`cos1.${ID}.${SECRET}.${FINGERPRINT.toUpperCase()}`, 'not the fingerprint'],
  [`cos1.${ID}.${SECRET}.aaaa aaaa`, 'a blank or a line break'],
  [`cos2.${ID}.${SECRET}.${FINGERPRINT}`, 'is of version 2, and this ContainerOS knows version 1'],
  [`hello`, 'it does not begin with cos1'],
])('%j: %s', (text, words) => {
  expect(() => parseJoinToken(text)).toThrow(words);
});

test('a token that would not be parsed is not formatted', () => {
  expect(() => formatJoinToken({ id: 'short', secret: SECRET, authorityFingerprint: FINGERPRINT })).toThrow();
});

test.each([
  ['in time', {}, 999, undefined],
  ['at its end', {}, 1_000, 'expired'],
  ['without uses', { usesLeft: 0 }, 0, 'used_up'],
  ['revoked', { revokedAtMs: 5 }, 10, 'revoked'],
  ['all of it', { usesLeft: 0, revokedAtMs: 5 }, 2_000, 'expired'],
  ['used up and revoked', { usesLeft: 0, revokedAtMs: 5 }, 10, 'used_up'],
])('a token %s', (_what, change, nowMs, reason) => {
  const found = whyUnusable({ id: ID, expiresAtMs: 1_000, usesLeft: 1, ...change }, nowMs);
  expect(found?.reason).toBe(reason);
  if (found) expect(found.message).toMatch(/^The join token abcd1234 .*\. Make a new one with POST/);
});
