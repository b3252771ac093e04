/** When a cluster's gossip takes the slower timing, and when it comes back. */

import fc from 'fast-check';

import {
  FIRST_DECISION,
  LAN_BELOW_MS,
  MEASUREMENTS_TO_LAN,
  MEASUREMENTS_TO_WAN,
  WAN_ABOVE_MS,
  decideGossip,
  type GossipDecision,
} from '../../../domain/gossip-profile';

const WAN: GossipDecision = { timing: 'wan', dissent: 0 };
const after = (before: GossipDecision, measurements: readonly (readonly number[])[]): GossipDecision =>
  measurements.reduce((decision, roundTripsMs) => decideGossip(decision, roundTripsMs), before);
const times = (count: number, roundTripsMs: readonly number[]) =>
  Array.from({ length: count }, () => roundTripsMs);

test.each<[string, GossipDecision, readonly (readonly number[])[], GossipDecision['timing']]>([
  ['one far member, for long enough', FIRST_DECISION, times(MEASUREMENTS_TO_WAN, [1, 2, 140]), 'wan'],
  ['one far member, for too short a time', FIRST_DECISION, times(MEASUREMENTS_TO_WAN - 1, [1, 140]), 'lan'],
  ['a peak between', FIRST_DECISION, [[140], [140], [1], [140], [140]], 'lan'],
  ['all near, for long enough', WAN, times(MEASUREMENTS_TO_LAN, [1, 2]), 'lan'],
  ['all near, for too short a time', WAN, times(MEASUREMENTS_TO_LAN - 1, [1, 2]), 'wan'],
  ['between the limits, from lan', FIRST_DECISION, times(1_000, [80]), 'lan'],
  ['between the limits, from wan', WAN, times(1_000, [80]), 'wan'],
  ['at the limits', FIRST_DECISION, times(1_000, [WAN_ABOVE_MS, LAN_BELOW_MS]), 'lan'],
  ['at the lower limit', WAN, times(1_000, [LAN_BELOW_MS]), 'wan'],
  ['nobody measured', WAN, times(1_000, []), 'wan'],
  ['what is no time', FIRST_DECISION, times(1_000, [NaN, Infinity, -1]), 'lan'],
])('%s', (_what, before, measurements, timing) => {
  expect(after(before, measurements).timing).toBe(timing);
});

test('what nobody could measure neither adds to a dissent nor ends it', () => {
  expect(after(FIRST_DECISION, [[140], [], [140], [], [140]]).timing).toBe('wan');
});

const roundTrip = fc.oneof(
  fc.double({ min: 0, max: 400, noNaN: true }),
  fc.constantFrom(LAN_BELOW_MS, WAN_ABOVE_MS, NaN),
);
const measurements = fc.array(fc.array(roundTrip, { maxLength: 5 }), { maxLength: 200 });
const decision = fc.constantFrom<GossipDecision>(FIRST_DECISION, WAN, { timing: 'wan', dissent: 7 });

test('it changes only after as many measurements in a row as it takes, so restarts are bounded', () => {
  fc.assert(
    fc.property(measurements, (history) => {
      let before = FIRST_DECISION;
      let since = 0;
      for (const roundTripsMs of history) {
        const now = decideGossip(before, roundTripsMs);
        since += 1;
        if (now.timing !== before.timing) {
          expect(since).toBeGreaterThanOrEqual(
            now.timing === 'wan' ? MEASUREMENTS_TO_WAN : MEASUREMENTS_TO_LAN,
          );
          since = 0;
        }
        before = now;
      }
    }),
  );
});

test('a farther member never makes it lan, and the order of members says nothing', () => {
  fc.assert(
    fc.property(
      decision,
      fc.array(roundTrip, { minLength: 1, maxLength: 5 }),
      roundTrip,
      (before, near, extra) => {
        const one = decideGossip(before, near);
        const farther = decideGossip(before, [...near, extra]);
        if (one.timing === 'wan') expect(farther.timing).toBe('wan');
        expect(decideGossip(before, [...near].reverse())).toEqual(one);
      },
    ),
  );
});
