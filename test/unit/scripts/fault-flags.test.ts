// How the random run of the test cluster is asked for a number of faults: a number, or nothing is run.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeSandbox, projectRoot } from './sandbox';

interface Read {
  readonly faults: number;
  readonly seed: number;
  readonly limitMs: number;
  readonly moreMs: number;
  readonly env: NodeJS.ProcessEnv;
}

/** @returns what is read, or what is refused in words */
async function read(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Read | string> {
  const sandbox = makeSandbox();
  const module = JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'fault-flags.mjs'));
  const script = `
    import { moreMsForFaults, readFaultFlags } from ${module};
    try {
      const asked = readFaultFlags(${JSON.stringify(argv)}, ${JSON.stringify(env)});
      console.log(JSON.stringify({ ...asked, moreMs: moreMsForFaults(asked) }));
    } catch (error) {
      if (error.name !== 'SetUpError') throw error;
      console.log(JSON.stringify(error.message));
    }`;
  const { output } = await sandbox.run(['--input-type=module', '--eval', script]).ended;
  sandbox.dispose();
  return JSON.parse(output) as Read | string;
}

it('takes flags before variables, and has a number and a seed where there are none', async () => {
  expect(await read([])).toMatchObject({ faults: 30, seed: 1, moreMs: 0 });
  const variables = { CONTAINEROS_TEST_FAULTS: '200', CONTAINEROS_TEST_FAULT_SEED: '9' };
  expect(await read([], variables)).toMatchObject({ faults: 200, seed: 9, env: variables });
  expect(await read(['--faults', '100', '--seed=7'], variables)).toMatchObject({
    faults: 100,
    seed: 7,
    env: { CONTAINEROS_TEST_FAULTS: '100', CONTAINEROS_TEST_FAULT_SEED: '7' },
  });
  expect(await read([], { CONTAINEROS_TEST_FAULTS: '' })).toMatchObject({ faults: 30 });
});

it('lets a run take longer the more faults it has, and the whole of the tests too', async () => {
  const [few, many] = [await read(['--faults', '30']), await read(['--faults', '430'])] as [Read, Read];
  expect(many.limitMs - few.limitMs).toBe(400 * 30_000);
  expect(many.moreMs).toBe(400 * 30_000);
  // No less than the test gives itself.
  expect(few.limitMs).toBeGreaterThan(120_000 + 30 * 30_000);
});

it.each([
  [['--faults', 'abc'], {}, '--faults has to be a whole number from 1 to 100000, not "abc"'],
  [['--faults', '0'], {}, '--faults has to be'],
  [['--faults=-3'], {}, 'not "-3"'],
  [['--faults', '1e3'], {}, 'not "1e3"'],
  [['--faults', '2.5'], {}, 'not "2.5"'],
  [['--seed', 'x'], {}, '--seed has to be a whole number from 0 to 4294967295, not "x"'],
  [['--seed', '4294967296'], {}, '--seed has to be'],
  [[], { CONTAINEROS_TEST_FAULTS: 'abc' }, 'CONTAINEROS_TEST_FAULTS has to be'],
  [[], { CONTAINEROS_TEST_FAULT_SEED: '1x' }, 'CONTAINEROS_TEST_FAULT_SEED has to be'],
  [['--fault', '3'], {}, "Unknown option '--fault'"],
  [['100'], {}, 'npm run faults -- --faults 100 --seed 7'],
])('refuses %j with %j', async (argv, env, words) => {
  expect(await read(argv, env)).toContain(words);
});

it('is what npm run faults runs', () => {
  const { scripts } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
    readonly scripts: Readonly<Record<string, string>>;
  };
  expect(scripts['faults']).toBe('node scripts/faults.mjs');
});
