import fc from 'fast-check';

import { createHostPortChooser, NoHostPort } from '../../../adapters/docker/host-ports';

const free = () => Promise.resolve(false);

test('no port is given twice until it is given back', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 10 }),
      fc.float({ min: 0, max: Math.fround(0.99), noNaN: true }),
      async (counts, chance) => {
        const chooser = createHostPortChooser({ first: 1_000, last: 1_039 }, free, () => chance);
        const given = (await Promise.all(counts.map((count) => chooser.choose(count)))).flat();
        expect(new Set(given).size).toBe(given.length);
        expect(given.every((port) => port >= 1_000 && port <= 1_039)).toBe(true);
      },
    ),
  );
});

test('what others listen on, what is claimed, and what was refused is left out', async () => {
  let nowMs = 0;
  const chooser = createHostPortChooser(
    { first: 1, last: 5 },
    (port) => Promise.resolve(port === 1),
    () => 0,
    () => nowMs,
  );
  chooser.claim([2]);
  expect(await chooser.choose(1)).toEqual([3]);
  chooser.avoid([3]);
  expect(await chooser.choose(2)).toEqual([4, 5]);
  await expect(chooser.choose(1)).rejects.toThrow(NoHostPort);
  chooser.release([5]);
  expect(await chooser.choose(1)).toEqual([5]);
  nowMs = 61_000; // others may have gone away
  expect(await chooser.choose(1)).toEqual([3]);
});

test('a choice that fails gives back what it had taken', async () => {
  const chooser = createHostPortChooser({ first: 1, last: 2 }, free);
  await expect(chooser.choose(3)).rejects.toThrow(NoHostPort);
  expect((await chooser.choose(2)).sort()).toEqual([1, 2]);
});
