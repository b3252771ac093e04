// `npm run bench`: measures ContainerOS beside the Docker API called directly and Docker Swarm, on one engine.
// Invariants: everything is made in a test world and removed with it; docs/benchmarks.md is replaced as a whole,
// so that it never mixes runs.
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startBed, type Bed } from './bed';
import { deployCase, deploysCase, killCase, scaleCase } from './cases/changes';
import { idleCase, type IdleReport } from './cases/idle';
import { readsCase } from './cases/reads';
import { createContainerOsPeer } from './containeros-peer';
import { createDockerPeer } from './docker-peer';
import { createMeasurements } from './measurements';
import { gatherFacts, toJson, toMarkdown, writeDocument, type Results } from './report';
import { watchCpu } from './watch-cpu';
import { createSwarmPeer } from './swarm-peer';

/** Idling first, when nothing has happened yet; then Swarm is there, which would disturb it. */
const CASES = ['idle', 'deploy', 'kill', 'scale', 'deploys', 'reads'] as const;
type Case = (typeof CASES)[number];

const ROUNDS: Readonly<Record<Case, number>> = {
  idle: 1,
  deploy: 5,
  kill: 5,
  scale: 3,
  deploys: 3,
  reads: 3,
};
const CALLS_AT_A_TIME = [2, 4, 8];

const HELP = `npm run bench [-- FLAGS]
  --only CASE,…   only these cases (${CASES.join(', ')}); docs/benchmarks.md stays as it is
  --write         write docs/benchmarks.md all the same
  --alone         ContainerOS without its peers
  --rounds N      so many counted rounds of each case
  --json FILE     raw numbers into this file
  --log FILE      what ContainerOS wrote into this file`;

interface Options {
  readonly cases: readonly Case[];
  readonly alone: boolean;
  readonly rounds: number | undefined;
  readonly write: boolean;
  readonly json: string | undefined;
  readonly log: string | undefined;
}

const parseOptions = (argv: readonly string[]): Options | undefined => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string' },
      alone: { type: 'boolean' },
      rounds: { type: 'string' },
      write: { type: 'boolean' },
      json: { type: 'string' },
      log: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) return undefined;
  const cases = (values.only ?? CASES.join(',')).split(',').map((given) => {
    const found = CASES.find((known) => known === given.trim());
    if (found === undefined) throw new Error(`there is no case ${given}; the cases are ${CASES.join(', ')}`);
    return found;
  });
  if (values.rounds !== undefined && !/^[1-9]\d?$/.test(values.rounds))
    throw new Error(`--rounds must be a number from 1 to 99, not ${values.rounds}`);
  return {
    cases,
    alone: values.alone === true,
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
    write: values.write === true || (cases.length === CASES.length && values.alone !== true),
    json: values.json,
    log: values.log,
  };
};

/** What decides the figures; where they are written to does not. */
const commandOf = ({ cases, alone, rounds }: Options): string => {
  const flags = [
    ...(cases.length === CASES.length ? [] : [`--only ${cases.join(',')}`]),
    ...(alone ? ['--alone'] : []),
    ...(rounds === undefined ? [] : [`--rounds ${rounds}`]),
  ];
  return ['npm run bench', ...(flags.length > 0 ? ['--', ...flags] : [])].join(' ');
};

const say = (line: string): void => void process.stderr.write(`${line}\n`);

const runCases = async (bed: Bed, { cases, alone, rounds }: Options, command: string): Promise<Results> => {
  const loadBefore = loadavg()[0] ?? 0;
  const measurements = createMeasurements();
  const facts = await gatherFacts(bed.engine.docker, command, loadBefore);
  const own = createContainerOsPeer(bed, say);
  let idle: readonly IdleReport[] = [];
  if (cases.includes('idle')) {
    say('\n--- idle ---');
    idle = await idleCase({ bed, peer: own, measurements, say });
  }
  const comparisons = {
    deploy: deployCase,
    kill: killCase,
    scale: scaleCase,
    deploys: deploysCase,
  } as const;
  const wanted = cases.flatMap((one) => (one === 'idle' || one === 'reads' ? [] : [one]));
  if (wanted.length > 0) {
    const swarm = alone ? undefined : await createSwarmPeer(bed);
    const others =
      swarm === undefined ? [] : [...CALLS_AT_A_TIME.map((width) => createDockerPeer(bed, width)), swarm];
    for (const one of wanted) {
      say(`\n--- ${one} ---`);
      await comparisons[one]({
        peers: [...others, own],
        rounds: rounds ?? ROUNDS[one],
        measurements,
        say,
        cpu: watchCpu(bed),
      });
    }
    await swarm?.leave();
  }
  if (cases.includes('reads')) {
    say('\n--- reads ---');
    await readsCase({ bed, peer: own, rounds: rounds ?? ROUNDS.reads, measurements, say });
  }
  return { facts: { ...facts, loadAfter: loadavg()[0] ?? 0 }, measured: measurements.all(), idle };
};

const writeFile = (path: string, text: string): void => {
  mkdirSync(dirname(resolve(path)), { recursive: true });
  writeFileSync(path, text);
};

const main = async (): Promise<void> => {
  const argv = process.argv.slice(2);
  const options = parseOptions(argv);
  if (options === undefined) return void process.stdout.write(`${HELP}\n`);
  const command = commandOf(options);
  const bed = await startBed();
  let results: Results;
  try {
    results = await runCases(bed, options, command);
  } finally {
    if (options.log !== undefined) writeFile(options.log, bed.instance.log());
    await bed.dispose();
  }
  if (options.json !== undefined) writeFile(options.json, toJson(results));
  process.stdout.write(`\n${toMarkdown(results)}\n`);
  if (options.write) say(`\nwritten to ${await writeDocument(results)}`);
  if (options.json === undefined) process.stdout.write(`\n${toJson(results)}\n`);
};

// Ending is enough: the janitor of the test world removes everything when this process is gone.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
