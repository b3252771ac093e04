import { ENGINE_LOST_AFTER_MS, createEngineAbsence } from '../../../../workers/node/engine-absence';

const FIRST_MS = 1_700_000_000_000;

const absence = () => {
  let nowMs = 0;
  const engine = createEngineAbsence(
    () => nowMs,
    () => FIRST_MS + nowMs,
  );
  return {
    ...engine,
    goneFor: (ms: number) => {
      engine.gone();
      nowMs += ms;
    },
    backFor: (ms: number) => {
      engine.back();
      nowMs += ms;
    },
  };
};

test('an engine that was never reached counts as lost after a while, since the beginning', () => {
  const engine = absence();
  expect(engine.isAway()).toBe(true);
  engine.goneFor(ENGINE_LOST_AFTER_MS - 1);
  expect(engine.lostAtMs()).toBeUndefined();
  engine.goneFor(1);
  expect(engine.lostAtMs()).toBe(FIRST_MS);
});

test('one that was away once is there as soon as it answers', () => {
  const engine = absence();
  engine.goneFor(10 * ENGINE_LOST_AFTER_MS);
  engine.backFor(0);
  expect([engine.isAway(), engine.lostAtMs()]).toEqual([false, undefined]);
  // What comes then is counted by itself.
  engine.goneFor(ENGINE_LOST_AFTER_MS - 1);
  expect(engine.lostAtMs()).toBeUndefined();
});

test('one that answers briefly again and again counts as lost, until it answers for some time', () => {
  const engine = absence();
  engine.backFor(60_000);
  for (let turn = 0; turn < 3; turn += 1) {
    expect(engine.lostAtMs()).toBeUndefined();
    engine.goneFor(5_000);
    if (turn < 2) engine.backFor(1_000);
  }
  expect(engine.lostAtMs()).toBe(FIRST_MS + 60_000);
  engine.backFor(ENGINE_LOST_AFTER_MS - 1);
  expect([engine.isAway(), engine.lostAtMs()]).toEqual([false, FIRST_MS + 60_000]);
  engine.backFor(1);
  expect(engine.lostAtMs()).toBeUndefined();
  engine.goneFor(5_000);
  expect(engine.lostAtMs()).toBeUndefined();
});

test('one that misses a moment now and then never counts as lost', () => {
  const engine = absence();
  engine.backFor(60_000);
  for (let turn = 0; turn < 100; turn += 1) {
    engine.goneFor(1_000);
    engine.backFor(10_000);
    expect(engine.lostAtMs()).toBeUndefined();
  }
});
