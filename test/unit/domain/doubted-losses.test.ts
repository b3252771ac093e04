/** Which losses are believed at once, and which only when they have lasted. */

import fc from 'fast-check';

import {
  DOUBT_MS,
  JUST_BACK_MS,
  LOST_FOR_A_WHILE_MS,
  NOBODY_KNOWN,
  afterSaying,
  doubtEndsAtMs,
  type BelievedMembers,
} from '../../../domain/doubted-losses';

/** What is said, and when: `a b-` is "a is there, b is lost". */
type Saying = readonly [atMs: number, words: string];

const saidIn = (words: string): ReadonlyMap<string, boolean> =>
  new Map(words.split(' ').map((word) => [word.replace('-', ''), !word.endsWith('-')]));

const believed = (sayings: readonly Saying[]): BelievedMembers =>
  sayings.reduce((known, [atMs, words]) => afterSaying(known, saidIn(words), atMs), NOBODY_KNOWN);

const thereAfter = (...sayings: readonly Saying[]): readonly string[] =>
  [...believed(sayings).up].filter(([, up]) => up).map(([nodeId]) => nodeId);

/** When c has been lost for as long as a node takes that is alone to hold others for failed. */
const LONG_AT_MS = 10 + LOST_FOR_A_WHILE_MS;

const C_IS_LOST: readonly Saying[] = [
  [0, 'a b c'],
  [10, 'a b c-'],
];
const C_IS_BACK: readonly Saying[] = [...C_IS_LOST, [9_000, 'a b c']];

test('a loss is believed at once when no other node is away', () => {
  expect(thereAfter([0, 'a b c'], [10, 'a b- c'])).toEqual(['a', 'c']);
});

test('nodes that are lost together are believed to be lost at once', () => {
  expect(thereAfter([0, 'a b c'], [10, 'a b- c-'])).toEqual(['a']);
  expect(thereAfter(...C_IS_LOST, [LONG_AT_MS - 1, 'a b- c-'])).toEqual(['a']);
});

test('the first word of the members is believed, and so is that of one that has joined', () => {
  expect(thereAfter([0, 'a b-'])).toEqual(['a']);
  expect(thereAfter([0, 'a'], [10, 'a b'], [20, 'a- b'])).toEqual(['b']);
});

test.each([
  ['has been lost for a while', C_IS_LOST, LONG_AT_MS, 'a b- c-'],
  ['comes back in the same moment', C_IS_LOST, LONG_AT_MS, 'a b- c'],
  ['has come back in this moment', C_IS_BACK, 9_000, 'a b- c'],
  ['has just come back', C_IS_BACK, 9_000 + JUST_BACK_MS - 1, 'a b- c'],
])('a loss while another node %s is believed when it has lasted', (_when, before, lostAtMs, words) => {
  const isThere = (...later: readonly Saying[]) =>
    believed([...before, [lostAtMs, words], ...later]).up.get('b');
  expect(isThere()).toBe(true);
  expect(doubtEndsAtMs(believed([...before, [lostAtMs, words]]))).toBe(lostAtMs + DOUBT_MS);
  expect(isThere([lostAtMs + DOUBT_MS - 1, words])).toBe(true);
  expect(isThere([lostAtMs + DOUBT_MS, words])).toBe(false);
  expect(doubtEndsAtMs(believed([...before, [lostAtMs, words], [lostAtMs + DOUBT_MS, words]]))).toBe(
    undefined,
  );
});

test('a loss is believed at once again when the return of the other node is some time ago', () => {
  expect(thereAfter(...C_IS_BACK, [9_000 + JUST_BACK_MS, 'a b- c'])).toEqual(['a', 'c']);
});

test('the return of a node that was lost for a moment makes no other loss doubtful', () => {
  expect(thereAfter(...C_IS_LOST, [1_000, 'a b c'], [1_010, 'a b- c'])).toEqual(['a', 'c']);
});

test('the return of a node that was away for longer than it takes to contradict makes other losses doubtful', () => {
  expect(thereAfter(...C_IS_LOST, [1_500, 'a b c'], [1_510, 'a b- c'])).toEqual(['a', 'b', 'c']);
});

test('a loss that is contradicted has never been', () => {
  const contradicted = believed([...C_IS_BACK, [9_100, 'a b- c'], [9_400, 'a b c']]);
  expect(contradicted).toEqual(afterSaying(believed(C_IS_BACK), saidIn('a b c'), 9_400));
});

test('a node that comes and goes alone is believed to be lost at once, however often and long', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 2 * LOST_FOR_A_WHILE_MS }), { maxLength: 30 }),
      (steps) => {
        let known = NOBODY_KNOWN;
        let nowMs = 0;
        for (const [index, laterMs] of steps.entries()) {
          nowMs += laterMs;
          known = afterSaying(known, saidIn(index % 2 === 0 ? 'a b' : 'a b-'), nowMs);
          expect(known.up.get('b')).toBe(index % 2 === 0);
        }
      },
    ),
  );
});

test('a node that is taken out is gone at once', () => {
  expect(thereAfter(...C_IS_BACK, [9_100, 'a c'])).toEqual(['a', 'c']);
});

const NODES = ['a', 'b', 'c', 'd'] as const;
const history = fc.array(
  fc.record({
    laterMs: fc.integer({ min: 1, max: 2 * LOST_FOR_A_WHILE_MS }),
    up: fc.tuple(...NODES.map(() => fc.boolean())),
  }),
  { minLength: 1, maxLength: 40 },
);

test('whatever is said: who is there is believed, and who is said to be lost counts as there for a second at most', () => {
  fc.assert(
    fc.property(history, (sayings) => {
      let known = NOBODY_KNOWN;
      let nowMs = 0;
      const lostSinceMs = new Map<string, number>();
      for (const { laterMs, up } of sayings) {
        nowMs += laterMs;
        const said = new Map(NODES.map((nodeId, index) => [nodeId, up[index] === true]));
        known = afterSaying(known, said, nowMs);
        for (const [nodeId, isUp] of said) {
          if (isUp) lostSinceMs.delete(nodeId);
          else if (!lostSinceMs.has(nodeId)) lostSinceMs.set(nodeId, nowMs);
          if (isUp) expect(known.up.get(nodeId)).toBe(true);
          const lostForMs = nowMs - (lostSinceMs.get(nodeId) ?? nowMs);
          if (!isUp && lostForMs >= DOUBT_MS) expect(known.up.get(nodeId)).toBe(false);
        }
        // Somebody looks again when a doubt ends.
        expect(doubtEndsAtMs(known) ?? nowMs + 1).toBeGreaterThan(nowMs);
        expect(doubtEndsAtMs(known) ?? nowMs).toBeLessThanOrEqual(nowMs + DOUBT_MS);
      }
    }),
  );
});
