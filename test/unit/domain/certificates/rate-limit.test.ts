import fc from 'fast-check';

import { LETS_ENCRYPT_LIMITS, limitsOf, take } from '../../../../domain/certificates/rate-limit';

test('limits are known of Let’s Encrypt alone', () => {
  expect(limitsOf('https://acme-v02.api.letsencrypt.org/directory')).toBe(LETS_ENCRYPT_LIMITS);
  expect(limitsOf('https://acme.zerossl.com/v2/DV90')).toBeUndefined();
  expect(limitsOf('https://api.letsencrypt.org.example.com/directory')).toBeUndefined();
});

test('a full bucket gives all at once, and then one after the other', () => {
  const { perDomain } = LETS_ENCRYPT_LIMITS;
  let fullAtMs: number | undefined;
  for (let count = 0; count < 50; count += 1) {
    const taken = take(perDomain, fullAtMs, 0);
    if (taken.kind !== 'taken') throw new Error(`refused after ${count}`);
    fullAtMs = taken.fullAtMs;
  }
  expect(take(perDomain, fullAtMs, 0)).toEqual({ kind: 'refused', untilMs: perDomain.everyMs });
  expect(Math.round(perDomain.everyMs / 60_000)).toBe(202);
  expect(take(perDomain, fullAtMs, perDomain.everyMs).kind).toBe('taken');
  expect(LETS_ENCRYPT_LIMITS.perAccount.everyMs).toBe(36_000);
});

test('in no span are there more than a burst and what has come back', () => {
  const limit = { burst: 5, everyMs: 100 };
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 60 }), (waits) => {
      let fullAtMs: number | undefined;
      let nowMs = 0;
      const taken: number[] = [];
      for (const wait of waits) {
        nowMs += wait;
        const answer = take(limit, fullAtMs, nowMs);
        if (answer.kind === 'taken') {
          fullAtMs = answer.fullAtMs;
          taken.push(nowMs);
        } else expect(take(limit, fullAtMs, answer.untilMs).kind).toBe('taken');
      }
      for (const [first, startMs] of taken.entries()) {
        for (const [last, endMs] of taken.entries()) {
          if (last < first) continue;
          expect(last - first + 1).toBeLessThanOrEqual(
            limit.burst + (endMs - startMs) / limit.everyMs + 1e-9,
          );
        }
      }
    }),
  );
});
