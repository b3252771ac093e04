// How often a prefix is read while it changes all the time, and how soon after a calm.
import { nextPauseMs, wholePauseMs } from '../../../adapters/consul/strides';

/** @param everyMs when the next change comes; each reading takes no time */
const strides = (entries: number, everyMs: number, count: number): readonly number[] => {
  const all: number[] = [];
  for (let nowMs = 0, next = 0; all.length < count;) {
    const waitedMs = Math.max(0, next - nowMs);
    nowMs += waitedMs;
    const stride = nextPauseMs(all.at(-1) ?? 0, wholePauseMs(entries), waitedMs);
    all.push(stride);
    nowMs += stride;
    while (next <= nowMs) next += everyMs;
  }
  return all;
};

test('a burst of changes of many documents is read at once, and then in strides', () => {
  expect(strides(5_000, 1, 7)).toEqual([62.5, 125, 250, 500, 500, 500, 500]);
  expect(strides(100_000, 1, 4).at(-1)).toBe(500);
});

test('changes that come one by one are told at once', () => {
  expect(strides(5_000, 1_000, 4)).toEqual([62.5, 62.5, 62.5, 62.5]);
});

test('a few documents cost little, and are read often', () => {
  expect(Math.max(...strides(20, 1, 100))).toBeLessThanOrEqual(2);
});
