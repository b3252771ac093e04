import { createClockReason } from '../../../../workers/node/clock-reason';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const words = (difference: string) =>
  `its clock is ${difference} that of the head node: set it, for example by NTP`;

test.each<readonly [number, string | undefined]>([
  [0, undefined],
  [5 * MINUTE_MS, undefined],
  [-5 * MINUTE_MS, undefined],
  [7 * MINUTE_MS, words('7 minutes ahead of')],
  [-7 * MINUTE_MS, words('7 minutes behind')],
  [3 * HOUR_MS, words('3 hours ahead of')],
  [-60 * 24 * HOUR_MS, words('60 days behind')],
])('a clock that is %i ms ahead', (aheadMs, reason) => {
  expect(createClockReason()(aheadMs)).toBe(reason);
});

test('it is said anew when it has changed by much, and is over when the clock is near enough', () => {
  const reasonOf = createClockReason();
  const said = [5.5, 5.4, 5.6, 4.5, 3.9, 4.5, 180, 181, 179.4, 175, 120, -6].map((minutes) =>
    reasonOf(minutes * MINUTE_MS),
  );
  const [six, hours] = [words('6 minutes ahead of'), words('3 hours ahead of')];
  expect(said).toEqual([
    ...[six, six, six, six, undefined, undefined],
    ...[hours, hours, hours, hours, words('2 hours ahead of'), words('6 minutes behind')],
  ]);
});
