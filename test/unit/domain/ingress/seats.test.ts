/** Who sits where of a sticky route. */

import fc from 'fast-check';

import { NO_TOKEN, fillSeats, type Seat } from '../../../../domain/ingress/seats';

const user = (token: string): Seat => ({ token, address: `10.0.0.1:${token}` });

test('whoever stays keeps the seat, and a free seat leads to somebody but has no token', () => {
  const before = fillSeats(4, [user('1'), user('2')], [], 'nowhere');
  expect(before.map(({ token }) => token)).toEqual(['1', '2', NO_TOKEN, NO_TOKEN]);
  const after = fillSeats(4, [user('2'), user('3')], before, 'nowhere');
  expect(after.map(({ token }) => token)).toEqual(['3', '2', NO_TOKEN, NO_TOKEN]);
  expect(after[3]?.address).toMatch(/^10\.0\.0\.1:/);
  expect(fillSeats(2, [], after, 'nowhere')).toEqual([
    { address: 'nowhere', token: NO_TOKEN },
    { address: 'nowhere', token: NO_TOKEN },
  ]);
});

test('more endpoints than seats is a mistake', () => {
  expect(() => fillSeats(1, [user('1'), user('2')], [], 'nowhere')).toThrow(RangeError);
});

test('whatever comes and goes: everybody has one seat, and keeps it', () => {
  const step = fc.uniqueArray(fc.integer({ min: 1, max: 9 }).map(String), { maxLength: 6 });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      let seats: readonly Seat[] = [];
      for (const tokens of steps) {
        const next = fillSeats(6, tokens.map(user), seats, 'nowhere');
        expect(
          next
            .map(({ token }) => token)
            .filter((token) => token !== NO_TOKEN)
            .sort(),
        ).toEqual([...tokens].sort());
        seats.forEach(({ token }, seat) => {
          if (tokens.includes(token)) expect(next[seat]?.token).toBe(token);
        });
        seats = next;
      }
    }),
  );
});
