// `npm run faults [-- --faults N --seed N]`: sets up what is missing, and runs the random faults of the test cluster alone:
// as many as one likes, for as long as they take.
import { join } from 'node:path';
import { build } from './build.mjs';
import { isRoot } from './set-up/debian-packages.mjs';
import { requireMachine, runEntry, SetUpError } from './set-up/failure.mjs';
import { FAULTS_USAGE, readFaultFlags } from './set-up/fault-flags.mjs';
import { checkoutPath } from './set-up/paths.mjs';
import { run, stopOnSignals } from './set-up/processes.mjs';
import { setUpToTest } from './set-up/set-up.mjs';
import { step } from './set-up/steps.mjs';

const TEST = 'test/e2e/cluster-random\\.test\\.ts$';

await runEntry(async () => {
  const args = process.argv.slice(2);
  if (args.includes('--help') || args.includes('-h')) {
    console.log(FAULTS_USAGE);
    return 0;
  }
  const asked = readFaultFlags(args, process.env);
  requireMachine();
  if (!isRoot()) {
    throw new SetUpError(
      'A cluster of test machines has network namespaces and Docker Engines, which needs root.',
      [],
      ['Run `sudo env "PATH=$PATH" npm run faults`.'],
    );
  }
  stopOnSignals();
  const found = await setUpToTest({ asRoot: true });
  await step('build', () => build());
  // The machines choose their engines themselves; one that the user has for other work must not be touched.
  const env = { ...process.env, ...found, ...asked.env, NODE_ENV: 'test' };
  delete env.DOCKER_HOST;
  const { code, timedOut } = await run(
    join(checkoutPath, 'node_modules', '.bin', 'jest'),
    ['--selectProjects', 'e2e', '--testPathPattern', TEST],
    { cwd: checkoutPath, env, inherit: true, timeoutMs: asked.limitMs },
  );
  if (timedOut)
    console.log(`the run took longer than ${Math.round(asked.limitMs / 60_000)} minutes and was ended`);
  return code ?? 1;
});
