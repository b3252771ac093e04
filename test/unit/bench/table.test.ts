// What the tables of the benchmarks claim: who is compared with whom, and when a target counts as met.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMeasurements, METRICS, requestMetric, type Metric } from '../../../bench/measurements';
import { SECTIONS } from '../../../bench/options';
import {
  MARKS,
  comparisonTable,
  isMet,
  limitTable,
  proxyTable,
  rowsOf,
  sorted,
  withResults,
} from '../../../bench/table';
import { projectRoot } from '../../support/process';

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

test.each([
  ['rate', [960, 1900], true],
  ['rate', [940, 1900], false],
  ['cpu', [1_040, 2_100], true],
  ['cpu', [1_060, 2_100], false],
] as const)('a proxy is compared in each round: %s of %j', (figure, own, expected) => {
  const measurements = createMeasurements();
  const metric = requestMetric('small', figure);
  // The second round had a machine that was twice as fast.
  for (const value of [1_000, 2_000]) measurements.add(metric, 'caddy', value);
  for (const value of own) measurements.add(metric, 'containeros', value);
  expect(rowsOf(measurements.all()[0] as never).at(-1)?.met).toBe(expected);
});

test('without the same program configured by hand there is nothing to compare a proxy with', () => {
  const measurements = createMeasurements();
  measurements.add(requestMetric('small', 'rate'), 'nginx', 1_000);
  measurements.add(requestMetric('small', 'rate'), 'containeros', 1_000);
  expect(rowsOf(measurements.all()[0] as never).map(({ toCaddy, met }) => [toCaddy, met])).toEqual([
    [undefined, undefined],
    [undefined, undefined],
  ]);
});

test('the table of proxies', () => {
  const measurements = createMeasurements();
  const metric = requestMetric('small', 'rate');
  for (const [peer, value] of [
    ['containeros', 900],
    ['caddy', 1_000],
    ['nginx', 2_500],
  ] as const) {
    measurements.add(metric, peer, value);
  }
  expect(proxyTable(measurements.all()).split('\n')).toEqual([
    '| case | who | median | min–max | rounds | ÷ Caddy by hand | target | met |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    '| small: requests | nginx | 2500 requests/s | 2500–2500 | 1 | 2.50 |  |  |',
    '|  | Caddy by hand | 1000 requests/s | 1000–1000 | 1 |  |  |  |',
    '|  | ContainerOS | 900 requests/s | 900–900 | 1 | 0.90 | at most 5 % worse than Caddy by hand | **no** |',
  ]);
});

test('where each single value counts, one bad value is enough', () => {
  const target = { kind: 'below', limit: 5, worst: 8 } as const;
  const summary = { median: 4, min: 1, max: 7.9, count: 3 };
  expect(isMet(target, { summary })).toBe(true);
  expect(isMet(target, { summary: { ...summary, max: 8 } })).toBe(false);
  expect(isMet(target, { summary: { ...summary, median: 5 } })).toBe(false);
  const measurements = createMeasurements();
  measurements.add(METRICS.lossServes, 'containeros', 4);
  expect(limitTable(measurements.all())).toContain('| under 5 s, each under 8 s | 0.80 | yes |');
});

test('what tells more about a comparison stands under it, whoever was measured', () => {
  const measurements = createMeasurements();
  measurements.add(METRICS.clusterKillKnown, 'containeros', 1);
  measurements.add(METRICS.clusterKill, 'containeros', 1);
  measurements.add(METRICS.clusterDeploy, 'containeros', 1);
  const ids = ({ compared, alone }: ReturnType<typeof sorted>) =>
    [compared, alone].map((list) => list.map(({ metric }) => metric.id));
  expect(ids(sorted(measurements.all()))).toEqual([
    [],
    ['cluster-kill-known', 'cluster-kill', 'cluster-deploy'],
  ]);
  measurements.add(METRICS.clusterKill, 'swarm', 2);
  measurements.add(METRICS.lossServes, 'swarm', 2);
  measurements.add(METRICS.lossServes, 'containeros', 2);
  expect(ids(sorted(measurements.all()))).toEqual([
    ['cluster-kill', 'cluster-kill-known', 'loss-serves'],
    ['cluster-deploy'],
  ]);
});

test('results replace what is between the marks of their section, and nothing else', () => {
  const { engine, cluster } = MARKS;
  const written = (one: string, three: string) =>
    `# Title\n\n${engine.begin}\n\n${one}\n\n${engine.end}\n\nbetween\n\n${cluster.begin}\n\n${three}\n\n${cluster.end}\n\nafter\n`;
  const document = written('old', 'old');
  expect(withResults(document, 'engine', 'new\n')).toBe(written('new', 'old'));
  expect(withResults(document, 'cluster', 'new\n')).toBe(written('old', 'new'));
  expect(() => withResults('# Title', 'cluster', 'new')).toThrow('no place for results of the cluster');
});

test('the document has a place for every section', () => {
  const document = readFileSync(join(projectRoot(), 'docs', 'benchmarks.md'), 'utf8');
  for (const section of SECTIONS) expect(withResults(document, section, 'new')).toContain('new');
});
