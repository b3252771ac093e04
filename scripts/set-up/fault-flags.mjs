// How many faults the random run of the test cluster has, and out of which seed: flags, or the variables by which the test
// itself is told. What is no number is refused here: it would be a run without faults, and so one without failures.
import { parseArgs } from 'node:util';
import { SetUpError } from './failure.mjs';

export const DEFAULT_FAULTS = 30;
const DEFAULT_SEED = 1;
const MAX_FAULTS = 100_000;
/** The generator takes 32 bits. */
const MAX_SEED = 2 ** 32 - 1;
/** As long as each fault with what follows from it may take on a busy machine (test/e2e/cluster-random.test.ts). */
const FAULT_LIMIT_MS = 30_000;
/** Before and after: to start a cluster, and to end it. */
const REST_LIMIT_MS = 10 * 60_000;

const FAULTS_VARIABLE = 'CONTAINEROS_TEST_FAULTS';
const SEED_VARIABLE = 'CONTAINEROS_TEST_FAULT_SEED';

export const FAULTS_USAGE = [
  '`npm run faults -- --faults 100 --seed 7` does so many faults of the schedule that the seed chooses;',
  `left out, ${DEFAULT_FAULTS} out of the seed ${DEFAULT_SEED}. The variables ${FAULTS_VARIABLE} and ${SEED_VARIABLE} say the same, also to \`npm test\`.`,
].join(' ');

function readNumber(text, name, [least, most]) {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= least && number <= most) return number;
  throw new SetUpError(
    `${name} has to be a whole number from ${least} to ${most}, not "${text}".`,
    [],
    [FAULTS_USAGE],
  );
}

/**
 * @param {readonly string[]} args flags
 * @param {NodeJS.ProcessEnv} env
 * @returns {{ faults: number, seed: number, limitMs: number, env: Record<string, string> }} `limitMs`: how long a run may
 *   take; `env`: how the test is told
 */
export function readFaultFlags(args, env) {
  const text = { type: 'string' };
  let values;
  try {
    ({ values } = parseArgs({ args: [...args], options: { faults: text, seed: text } }));
  } catch (error) {
    throw new SetUpError(`${error.message}.`, [], [FAULTS_USAGE]);
  }
  const read = (flag, variable, fallback, range) => {
    if (values[flag] !== undefined) return readNumber(values[flag], `--${flag}`, range);
    return env[variable] ? readNumber(env[variable], variable, range) : fallback;
  };
  const faults = read('faults', FAULTS_VARIABLE, DEFAULT_FAULTS, [1, MAX_FAULTS]);
  const seed = read('seed', SEED_VARIABLE, DEFAULT_SEED, [0, MAX_SEED]);
  return {
    faults,
    seed,
    limitMs: REST_LIMIT_MS + faults * FAULT_LIMIT_MS,
    env: { [FAULTS_VARIABLE]: String(faults), [SEED_VARIABLE]: String(seed) },
  };
}

/** By how much more than is usual `npm test` has to wait for the random run. */
export const moreMsForFaults = ({ faults }) => Math.max(0, faults - DEFAULT_FAULTS) * FAULT_LIMIT_MS;
