// `npm test [-- STAGE… [jest options]]`: sets up what is missing, then runs every check, cheapest first.
// A stage that fails does not keep the later ones from running. The last line says `N passed, N failed`, where lint
// and types count as one check each; the status is 0 only if something ran and nothing failed.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from './build.mjs';
import { isRoot } from './set-up/debian-packages.mjs';
import { requireMachine, runEntry, SetUpError } from './set-up/failure.mjs';
import { moreMsForFaults, readFaultFlags } from './set-up/fault-flags.mjs';
import { checkoutPath } from './set-up/paths.mjs';
import { onStop, run, stopOnSignals } from './set-up/processes.mjs';
import { setUpToTest } from './set-up/set-up.mjs';
import { formatSeconds, line, step } from './set-up/steps.mjs';

const MINUTE_MS = 60_000;
/** What is shown of a check: all of it, if not every file is wrong. */
const CHECK_TAIL_BYTES = 1_000_000;
const bin = (name) => join(checkoutPath, 'node_modules', '.bin', name);

/**
 * A stage without commands is a jest project. Where its tests wait for much beside the processor, more files run at a time
 * than jest.config.js says (docs/decisions/set-up-tests.md).
 * The limits are far above what stages take; together they stay under an hour and a half, so that a hang is told.
 */
const STAGES = {
  lint: {
    limitMs: 5 * MINUTE_MS,
    commands: [
      ['eslint', '.', '--max-warnings=0'],
      ['prettier', '--check', '--log-level=warn', '.'],
    ],
  },
  types: { limitMs: 4 * MINUTE_MS, commands: [['tsc', '--noEmit']] },
  unit: { limitMs: 8 * MINUTE_MS },
  workflow: { limitMs: 10 * MINUTE_MS, filesAtATime: 3 },
  replay: { limitMs: 4 * MINUTE_MS },
  integration: { limitMs: 20 * MINUTE_MS, filesAtATime: 3, needsRoot: true },
  e2e: { limitMs: 38 * MINUTE_MS, needsRoot: true, needsBuild: true },
};

await runEntry(async () => {
  requireMachine();
  stopOnSignals();
  STAGES.e2e.limitMs += moreMsForFaults(readFaultFlags([], process.env));
  const { names, jestOptions } = readArguments(process.argv.slice(2));
  const leftOut = names.filter((name) => STAGES[name].needsRoot && !isRoot());
  const toRun = names.filter((name) => !leftOut.includes(name));
  const results = [];
  try {
    const found = await setUpToTest({ asRoot: toRun.some((name) => STAGES[name].needsRoot) });
    // The tests choose their engines themselves; one that the user has for other work must not be touched.
    const env = { ...process.env, ...found, NODE_ENV: 'test' };
    delete env.DOCKER_HOST;
    const isBuilt = await buildFirst(results);
    const checks = beginChecks(toRun, env);
    for (const name of toRun) {
      if (isBuilt || !STAGES[name].needsBuild) results.push(await runStage(name, checks, jestOptions, env));
    }
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    console.log(`\n${error.message}`);
    results.push({ passed: 0, failed: 1, skipped: 0, summary: 'fail  set-up' });
  }
  return report(results, leftOut);
});

/** Sources that cannot be built count as one failure; the stages that do not need dist/ still run. */
async function buildFirst(results) {
  try {
    await step('build', () => build());
    return true;
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    console.log(error.message);
    results.push({
      passed: 0,
      failed: 1,
      skipped: 0,
      summary: 'fail  build: stages that need it were not run',
    });
    return false;
  }
}

function readArguments(args) {
  const isStage = (argument) => Object.hasOwn(STAGES, argument);
  const firstOther = args.findIndex((argument) => !isStage(argument));
  const names = firstOther === -1 ? args : args.slice(0, firstOther);
  const jestOptions = firstOther === -1 ? [] : args.slice(firstOther);
  if (jestOptions[0] !== undefined && !jestOptions[0].startsWith('-')) {
    throw new SetUpError(
      `There is no stage ${jestOptions[0]}.`,
      [],
      [`Name one of ${Object.keys(STAGES).join(', ')}, or none to run all of them.`],
    );
  }
  return { names: names.length === 0 ? Object.keys(STAGES) : names, jestOptions };
}

/** Each is busy on one core only: all are begun at once. @returns what comes of each, by the name of its stage */
function beginChecks(names, env) {
  const checks = names.filter((name) => STAGES[name].commands !== undefined);
  return new Map(checks.map((name) => [name, judged(name, runCheck(STAGES[name], env))]));
}

async function runStage(name, checks, jestOptions, env) {
  console.log(`\n--- ${name} ---`);
  const result = await (checks.get(name) ?? judged(name, runJest(name, jestOptions, env)));
  if (result.output !== '') console.log(result.output);
  console.log(result.summary);
  return result;
}

/** With the time that the stage takes from now on. */
async function judged(name, stage) {
  const begin = performance.now();
  const { counts, output = '' } = await stage;
  const outcome = counts.failed > 0 ? 'fail' : counts.passed > 0 ? 'ok' : 'empty';
  return { ...counts, name, output, summary: line(outcome, name, begin, summarise(counts)) };
}

/** Several commands that count as one check. */
async function runCheck({ commands, limitMs }, env) {
  const runs = commands.map(async ([command, ...args]) => {
    const options = { cwd: checkoutPath, env, timeoutMs: limitMs, tailBytes: CHECK_TAIL_BYTES };
    const { code, output, timedOut } = await run(bin(command), args, options);
    const overdue = timedOut ? `${command} took longer than ${limitMs / MINUTE_MS} minutes` : '';
    return { isGood: code === 0, texts: [output, overdue] };
  });
  const ends = await Promise.all(runs);
  const isGood = ends.every((end) => end.isGood);
  const texts = ends.flatMap((end) => end.texts).filter((text) => text !== '');
  return { counts: { passed: isGood ? 1 : 0, failed: isGood ? 0 : 1, skipped: 0 }, output: texts.join('\n') };
}

async function runJest(name, jestOptions, env) {
  const { limitMs, filesAtATime } = STAGES[name];
  const folder = mkdtempSync(join(tmpdir(), 'containeros-jest-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const forget = onStop(remove);
  try {
    const file = join(folder, 'result.json');
    const args = ['--selectProjects', name, '--passWithNoTests', '--json', `--outputFile=${file}`];
    // One that was asked for counts; jest takes no two.
    const isChosen = jestOptions.some((option) => /^(-i|--runInBand|-w|--maxWorkers)/.test(option));
    const workers = filesAtATime === undefined || isChosen ? [] : [`--maxWorkers=${filesAtATime}`];
    const result = await run(bin('jest'), [...args, ...workers, ...jestOptions], {
      cwd: checkoutPath,
      env,
      inherit: true,
      timeoutMs: limitMs,
    });
    if (result.timedOut) console.log(`jest took longer than ${limitMs / MINUTE_MS} minutes and was ended`);
    return { counts: countTests(file, result.code === 0) };
  } finally {
    remove();
    forget();
  }
}

/** A suite that cannot be loaded has no tests to count, and so counts as a failed one; so does a jest that broke. */
function countTests(file, isGood) {
  let counts = { passed: 0, failed: 0, skipped: 0 };
  try {
    const result = JSON.parse(readFileSync(file, 'utf8'));
    counts = {
      passed: result.numPassedTests,
      failed: result.numFailedTests + result.numRuntimeErrorTestSuites,
      skipped: result.numPendingTests + result.numTodoTests,
    };
  } catch {
    // No report: jest was ended or could not start. Its status tells.
  }
  if (!isGood && counts.failed === 0) counts.failed = 1;
  return counts;
}

function summarise({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

function report(results, leftOut) {
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  const total = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') };
  console.log(`\n--- all stages, ${formatSeconds(performance.now())} with set-up ---`);
  for (const { summary } of results) console.log(summary);
  if (leftOut.length > 0) {
    console.log(
      `NOT RUN: ${leftOut.join(', ')}. They make network namespaces and Docker Engines, which needs root.`,
    );
    console.log(`         To run them: sudo env "PATH=$PATH" npm test -- ${leftOut.join(' ')}`);
  }
  const isComplete = leftOut.length === 0 || process.env.CI !== 'true';
  console.log(`\n${summarise(total)}`);
  return total.failed === 0 && total.passed > 0 && isComplete ? 0 : 1;
}
