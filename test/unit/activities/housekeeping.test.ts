import { forgettableEvents } from '../../../activities/housekeeping';

const told = (node: string | undefined, count: number, from: number) =>
  Array.from({ length: count }, (_, at) => ({
    key: `${String(from + at).padStart(4, '0')} ${node ?? 'cluster'}`,
    value: node === undefined ? {} : { node },
  }));

test('few events are all kept, and of many the oldest go', () => {
  expect(forgettableEvents([], 10)).toEqual([]);
  expect(forgettableEvents([{ key: 'k', value: null }], 0)).toEqual(['k']);
  expect(forgettableEvents(told('a', 10, 0), 10)).toEqual([]);
  expect(forgettableEvents(told('a', 12, 0), 10)).toEqual(['0000 a', '0001 a']);
});

test('a node that floods pushes out its own, whenever it says that they were', () => {
  const others = [...told(undefined, 3, 0), ...told('b', 4, 3)];
  const flood = told('a', 500, 100);
  const gone = forgettableEvents([...others, ...flood], 20);
  expect(gone).toEqual(flood.slice(0, 500 - 13).map(({ key }) => key));
  const early = told('a', 500, 0);
  expect(forgettableEvents([...early, ...told('b', 4, 900)], 20)).toEqual(
    early.slice(0, 500 - 16).map(({ key }) => key),
  );
});

test('two that flood share what is kept', () => {
  const gone = forgettableEvents([...told('a', 30, 0), ...told('b', 40, 30), ...told('c', 2, 70)], 12);
  expect(gone).toHaveLength(25 + 35);
  expect(gone.filter((key) => key.endsWith('c'))).toEqual([]);
});
