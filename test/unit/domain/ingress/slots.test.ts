/** How the slots of a route are shared out among its endpoints. */

import fc from 'fast-check';

import { fillSlots, slotCountFor, type SlotUser } from '../../../../domain/ingress/slots';

const user = (address: string, isLocal = false): SlotUser => ({ address, isLocal });

const usersOf = (max: number) =>
  fc.uniqueArray(
    fc.record({ address: fc.stringMatching(/^10\.0\.0\.[1-9]:2[0-9]{2}$/), isLocal: fc.boolean() }),
    {
      selector: ({ address }) => address,
      maxLength: max,
    },
  );

const shareOf = (slots: readonly string[], address: string): number =>
  slots.filter((one) => one === address).length;

test.each([
  [0, 12],
  [1, 12],
  [6, 12],
  [7, 60],
  [30, 60],
  [31, 240],
  [2_520, 5_040],
  [10_000, 20_000],
])('%d endpoints have %d slots', (endpoints, count) => {
  expect(slotCountFor(endpoints)).toBe(count);
});

test('one endpoint has all slots, two have as many each, and a local one has more', () => {
  expect(fillSlots(4, [user('a')])).toEqual(['a', 'a', 'a', 'a']);
  expect(fillSlots(4, [user('b'), user('a')])).toEqual(['a', 'a', 'b', 'b']);
  expect(fillSlots(12, [user('a'), user('b', true), user('c')])).toEqual([
    ...['a', 'a', 'a'],
    ...['b', 'b', 'b', 'b', 'b', 'b'],
    ...['c', 'c', 'c'],
  ]);
});

test('an endpoint that goes gives its slots to the others, which keep theirs', () => {
  const before = ['a', 'b', 'a', 'c', 'b', 'c', 'a', 'b', 'c', 'a', 'b', 'c'];
  expect(fillSlots(12, [user('a'), user('c')], before)).toEqual([
    ...['a', 'a', 'a', 'c', 'a', 'c'],
    ...['a', 'c', 'c', 'a', 'c', 'c'],
  ]);
});

test('without endpoints there is nowhere to lead, and too many are refused', () => {
  expect(fillSlots(4, [], ['a', 'a', 'a', 'a'])).toEqual([]);
  expect(() => fillSlots(1, [user('a'), user('b')])).toThrow('2 endpoints do not fit into 1 slots');
});

test('every slot leads to an endpoint, every endpoint has its fair share, and the order given does not matter', () => {
  fc.assert(
    fc.property(usersOf(40), fc.array(fc.stringMatching(/^10\.0\.0\.[1-9]:2[0-9]{2}$/)), (users, before) => {
      fc.pre(users.length > 0);
      const count = slotCountFor(users.length);
      const slots = fillSlots(count, users, before);
      expect(slots).toHaveLength(count);
      expect(fillSlots(count, [...users].reverse(), before)).toEqual(slots);
      const shares = users.map(({ address, isLocal }) => ({ isLocal, share: shareOf(slots, address) }));
      expect(shares.reduce((sum, { share }) => sum + share, 0)).toBe(count);
      for (const isLocal of [true, false]) {
        const alike = shares.filter((one) => one.isLocal === isLocal).map(({ share }) => share);
        if (alike.length > 0) expect(Math.max(...alike) - Math.min(...alike)).toBeLessThanOrEqual(1);
        if (alike.length > 0) expect(Math.min(...alike)).toBeGreaterThan(0);
      }
    }),
  );
});

test('what is right already stays as it is, and a change touches no more slots than it has to', () => {
  fc.assert(
    fc.property(usersOf(30), fc.nat(), (users, pick) => {
      fc.pre(users.length > 1);
      const count = slotCountFor(users.length);
      const before = fillSlots(count, users);
      expect(fillSlots(count, users, before)).toEqual(before);
      const gone = users[pick % users.length];
      const rest = users.filter((one) => one !== gone);
      const after = fillSlots(count, rest, before);
      const changed = after.filter((address, index) => address !== before[index]).length;
      const given = users.map(({ address }) =>
        Math.max(0, shareOf(before, address) - shareOf(after, address)),
      );
      expect(changed).toBe(given.reduce((sum, one) => sum + one, 0));
    }),
  );
});
