// What the flags of the benchmarks mean, above all when results reach the document.
import {
  CASES,
  casesOf,
  commandOf,
  isWritten,
  lossesOf,
  parseOptions,
  roundsOf,
  type Options,
} from '../../../bench/options';

const parse = (line = ''): Options => {
  const options = parseOptions(line === '' ? [] : line.split(' '));
  if (options === undefined) throw new Error('help was not asked for');
  return options;
};

test('without flags everything is measured and written', () => {
  const options = parse();
  expect(casesOf('engine', options)).toEqual(CASES.engine);
  expect(casesOf('cluster', options)).toEqual(CASES.cluster);
  expect(isWritten('engine', options) && isWritten('cluster', options)).toBe(true);
  expect(commandOf(options)).toBe('npm run bench');
});

test('a section is written when all of its cases are measured, beside all peers', () => {
  const all = `--only ${CASES.cluster.join(',')}`;
  expect(isWritten('cluster', parse(all))).toBe(true);
  expect(isWritten('engine', parse(all))).toBe(false);
  expect(isWritten('cluster', parse(`${all} --alone`))).toBe(false);
  expect(isWritten('cluster', parse('--only node-loss,deploy'))).toBe(false);
  expect(isWritten('cluster', parse('--only node-loss,node-loss,node-loss,node-loss,node-loss'))).toBe(false);
  const forced = parse('--only node-loss --write');
  expect([isWritten('cluster', forced), isWritten('engine', forced)]).toEqual([true, false]);
});

test('the command in the report is the one that gives the same figures', () => {
  const line = '--only deploy,node-loss --alone --rounds 4 --swarm-losses 2';
  expect(commandOf(parse(`${line} --write --json out.json --log out.log`))).toBe(`npm run bench -- ${line}`);
});

test('Swarm loses nodes less often, and never more often than ContainerOS', () => {
  expect([lossesOf('containeros', parse()), lossesOf('swarm', parse())]).toEqual([20, 5]);
  expect(lossesOf('swarm', parse('--rounds 3'))).toBe(3);
  expect(lossesOf('swarm', parse('--rounds 10 --swarm-losses 7'))).toBe(7);
  expect(roundsOf('cluster-scale', parse('--rounds 10'))).toBe(10);
});

test('mistakes are told', () => {
  expect(() => parse('--only node-los')).toThrow('there is no case node-los; the cases are idle, deploy');
  expect(() => parse('--rounds 0')).toThrow('--rounds must be a number from 1 to 99, not 0');
  expect(() => parse('--swarm-losses 100')).toThrow('--swarm-losses must be a number');
  expect(parseOptions(['--help'])).toBeUndefined();
});
