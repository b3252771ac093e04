/** When a new configuration is due only to save requests their reading. */

import { createSettling, type Settling } from '../../../../workers/node/settling';

let accepted: number | undefined;
let due: number;
let settling: Settling;

beforeEach(() => {
  jest.useFakeTimers();
  accepted = 100;
  due = 0;
  settling = createSettling({
    acceptedConnections: () => accepted,
    onDue: () => (due += 1),
    afterMs: 1_000,
  });
});
afterEach(() => {
  settling.rest();
  jest.useRealTimers();
});

const connect = (count: number): void => {
  accepted = (accepted ?? 0) + count;
};

test('it is due when all has stayed for long enough, told once, and stays due until it is done', () => {
  settling.moved();
  jest.advanceTimersByTime(999);
  expect(settling.isDue()).toBe(false);
  jest.advanceTimersByTime(1);
  expect([due, settling.isDue()]).toEqual([1, true]);
  settling.stays();
  jest.advanceTimersByTime(5_000);
  expect([due, settling.isDue()]).toEqual([1, true]);
  settling.rest();
  jest.advanceTimersByTime(5_000);
  expect([due, settling.isDue()]).toEqual([1, false]);
});

test('each move begins the wait again, also one that comes when it was due; what only stays does not', () => {
  settling.stays();
  jest.advanceTimersByTime(600);
  settling.stays();
  jest.advanceTimersByTime(300);
  settling.moved();
  jest.advanceTimersByTime(999);
  expect(due).toBe(0);
  jest.advanceTimersByTime(1);
  expect(due).toBe(1);
  settling.moved();
  expect(settling.isDue()).toBe(false);
  jest.advanceTimersByTime(1_000);
  expect(due).toBe(2);
});

test('while people connect it is put off, for as long as they do', () => {
  settling.moved();
  for (let second = 0; second < 60; second += 1) {
    connect(3);
    jest.advanceTimersByTime(1_000);
  }
  expect(due).toBe(0);
  connect(2);
  jest.advanceTimersByTime(1_000);
  expect(due).toBe(1);
});

test('it is never due where nobody knows how many connect, at the beginning or at the end', () => {
  accepted = undefined;
  settling.moved();
  jest.advanceTimersByTime(10_000);
  accepted = 5;
  jest.advanceTimersByTime(1_000);
  expect(due).toBe(0);
  jest.advanceTimersByTime(1_000);
  expect(due).toBe(1);
  settling.moved();
  accepted = undefined;
  jest.advanceTimersByTime(10_000);
  expect([due, settling.isDue()]).toEqual([1, false]);
});

test('each time doubles the wait before the next, and a time without any ends that', () => {
  const settle = (afterMs: number) => {
    const before = due;
    settling.moved();
    jest.advanceTimersByTime(afterMs - 1);
    expect(due).toBe(before);
    jest.advanceTimersByTime(1);
    expect(due).toBe(before + 1);
    settling.done();
    settling.rest();
  };
  settle(1_000);
  settle(2_000);
  settle(4_000);
  jest.advanceTimersByTime(3_600_001);
  settle(1_000);
});
