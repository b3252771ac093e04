// What the tables of the benchmarks claim: who is compared with whom, and when a target counts as met.
import { createMeasurements, METRICS, type Metric } from '../../../bench/measurements';
import {
  BEGIN_MARK,
  END_MARK,
  comparisonTable,
  isMet,
  limitTable,
  rowsOf,
  withResults,
} from '../../../bench/table';

const measuredDeploys = (own: readonly number[], swarm: readonly number[] = [4, 4, 4]) => {
  const measurements = createMeasurements();
  for (const value of [3, 3, 3]) measurements.add(METRICS.deploy, 'docker-2', value);
  for (const value of [2, 2.5, 1]) measurements.add(METRICS.deploy, 'docker-4', value);
  for (const value of swarm) measurements.add(METRICS.deploy, 'swarm', value);
  for (const value of own) measurements.add(METRICS.deploy, 'containeros', value);
  return measurements.all();
};

test('the product is compared with the best number of direct calls at a time, and with Swarm', () => {
  const [deploys] = measuredDeploys([2.2, 2.4, 9]);
  const rows = rowsOf(deploys as never);
  expect(rows.map(({ peer, toDocker, toSwarm, met }) => [peer, toDocker, toSwarm, met])).toEqual([
    ['docker-4', undefined, undefined, undefined],
    ['swarm', 2, undefined, undefined],
    ['containeros', 1.2, 0.6, true],
  ]);
});

test.each([
  ['slower than the limit allows', [2.7, 2.7], [4], false],
  ['near the direct calls, but slower than Swarm', [2.4, 2.4], [2.3], false],
  ['Swarm was not measured', [2.4], [], undefined],
])('%s', (_, own, swarm, expected) => {
  const [deploys] = measuredDeploys(own, swarm);
  expect(rowsOf(deploys as never).at(-1)?.met).toBe(expected);
});

test('a limit is met below it, not at it', () => {
  const summary = { median: 10, min: 1, max: 20, count: 3 };
  expect(isMet({ kind: 'below', limit: 10 }, { summary })).toBe(false);
  expect(isMet({ kind: 'below', limit: 10.1 }, { summary })).toBe(true);
});

test('the tables', () => {
  expect(comparisonTable(measuredDeploys([2.7, 2.8, 2.9])).split('\n')).toEqual([
    '| case | who | median | min–max | rounds | ÷ Docker API | ÷ Swarm | target | met |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    '| deploy 6 replicas | Docker API, 4 at a time | 2.00 s | 1.00–2.50 | 3 |  |  |  |  |',
    '|  | Docker Swarm | 4.00 s | 4.00–4.00 | 3 | 2.00 |  |  |  |',
    '|  | ContainerOS | 2.80 s | 2.70–2.90 | 3 | 1.40 | 0.70 | at most 1.3 × Docker API, faster than Swarm | **no** |',
  ]);

  const metric: Metric = { id: 'read', title: 'GET', unit: 'ms', target: { kind: 'below', limit: 10 } };
  const measurements = createMeasurements();
  for (const value of [2, 3, 4]) measurements.add(metric, 'containeros', value);
  expect(limitTable(measurements.all()).split('\n')[2]).toBe(
    '| GET | 3.0 ms | 2.0–4.0 | 3 | under 10 ms | 0.30 | yes |',
  );
});

test('results replace what is between the marks, and nothing else', () => {
  const document = `# Title\n\n${BEGIN_MARK}\n\nold\n\n${END_MARK}\n\nafter\n`;
  expect(withResults(document, 'new\n')).toBe(`# Title\n\n${BEGIN_MARK}\n\nnew\n\n${END_MARK}\n\nafter\n`);
  expect(() => withResults('# Title', 'new')).toThrow('no place for results');
});
