// Runs the wanted cases of a section, on machines that are made for it.
// Invariant: everything is made in a test world and removed with it, whatever goes wrong.
import { loadavg } from 'node:os';
import { startBed, startClusterBed, type Bed } from './bed';
import {
  deployCase,
  deploysCase,
  killCase,
  ON_ONE_ENGINE,
  ON_THREE_ENGINES,
  scaleCase,
  type ChangeCaseOptions,
} from './cases/changes';
import { clusterIdleCase } from './cases/cluster-idle';
import { idleCase, type IdleReport } from './cases/idle';
import { nodeLossCase } from './cases/node-loss';
import { readsCase } from './cases/reads';
import { createContainerOsPeer } from './containeros-peer';
import { createDockerPeer } from './docker-peer';
import { createMeasurements } from './measurements';
import { casesOf, commandOf, lossesOf, roundsOf, type Case, type Options } from './options';
import type { Orchestrator, Peer } from './peer';
import { dockerVersion, gatherFacts, type Results } from './report';
import { runIngress } from './run-ingress';
import { createSwarmPeer } from './swarm-peer';
import type { Section } from './table';
import { watchCpu } from './watch-cpu';

/** Sections that are measured on test machines. */
type MachinesSection = Exclude<Section, 'ingress'>;

const MACHINES: Readonly<Record<MachinesSection, number>> = { engine: 1, cluster: 3 };
/** Of direct calls; on several engines they are shared evenly. */
const CALLS_AT_A_TIME: Readonly<Record<MachinesSection, readonly number[]>> = {
  engine: [2, 4, 8],
  cluster: [3, 6, 12],
};

interface Run {
  readonly bed: Bed;
  readonly options: Options;
  readonly own: Orchestrator;
  readonly measurements: ReturnType<typeof createMeasurements>;
  readonly say: (line: string) => void;
}

interface Others {
  readonly direct: readonly Peer[];
  /** Undefined when ContainerOS is measured alone. */
  readonly swarm: (Orchestrator & { leave(): Promise<void> }) | undefined;
}

/** @param keepLog is given what ContainerOS has written, also when a case fails */
export const runSection = async (
  section: Section,
  options: Options,
  say: (line: string) => void,
  keepLog: (text: string) => void,
): Promise<Results> =>
  section === 'ingress' ? runIngress(options, say) : runOnMachines(section, options, say, keepLog);

const runOnMachines = async (
  section: MachinesSection,
  options: Options,
  say: (line: string) => void,
  keepLog: (text: string) => void,
): Promise<Results> => {
  const bed = await (section === 'engine' ? startBed() : startClusterBed(MACHINES.cluster, say));
  try {
    const loadBefore = loadavg()[0] ?? 0;
    const facts = await gatherFacts(
      await dockerVersion(bed.engines[0].docker),
      commandOf(options),
      loadBefore,
    );
    const run: Run = {
      bed,
      options,
      own: createContainerOsPeer(bed, say),
      measurements: createMeasurements(),
      say,
    };
    const idle = await (section === 'engine' ? runOnOne(run) : runOnThree(run));
    return {
      section,
      facts: { ...facts, loadAfter: loadavg()[0] ?? 0 },
      measured: run.measurements.all(),
      idle,
    };
  } finally {
    keepLog(bed.log());
    await bed.dispose();
  }
};

const runOnOne = async (run: Run): Promise<readonly IdleReport[]> => {
  const { bed, options, own, measurements, say } = run;
  const cases = casesOf('engine', options);
  let idle: readonly IdleReport[] = [];
  if (cases.includes('idle')) {
    say('\n--- idle ---');
    idle = await idleCase({ bed, peer: own, measurements, say });
  }
  const comparisons = {
    deploy: (of: ChangeCaseOptions) => deployCase(of, ON_ONE_ENGINE.deploy),
    kill: (of: ChangeCaseOptions) => killCase(of, ON_ONE_ENGINE.kill),
    scale: (of: ChangeCaseOptions) => scaleCase(of, ON_ONE_ENGINE.scale),
    deploys: deploysCase,
  } as const;
  const wanted = cases.flatMap((one) => (one === 'idle' || one === 'reads' ? [] : [one]));
  if (wanted.length > 0) {
    await amongOthers(run, 'engine', async (others) => {
      for (const one of wanted) await comparisons[one](changeCase(run, one, others));
    });
  }
  if (cases.includes('reads')) {
    say('\n--- reads ---');
    await readsCase({ bed, peer: own, rounds: roundsOf('reads', options), measurements, say });
  }
  return idle;
};

const runOnThree = async (run: Run): Promise<readonly IdleReport[]> => {
  const { bed, options, own, measurements, say } = run;
  const cases = casesOf('cluster', options);
  let idle: readonly IdleReport[] = [];
  if (cases.includes('cluster-idle')) {
    say('\n--- cluster-idle ---');
    idle = await clusterIdleCase({ bed, peer: own, measurements, say });
  }
  const comparisons = {
    'cluster-deploy': (of: ChangeCaseOptions) => deployCase(of, ON_THREE_ENGINES.deploy),
    'cluster-kill': (of: ChangeCaseOptions) => killCase(of, ON_THREE_ENGINES.kill),
    'cluster-scale': (of: ChangeCaseOptions) => scaleCase(of, ON_THREE_ENGINES.scale),
  } as const;
  const wanted = cases.flatMap((one) => (one === 'cluster-idle' ? [] : [one]));
  if (wanted.length === 0) return idle;
  await amongOthers(run, 'cluster', async (others) => {
    for (const one of wanted) {
      if (one === 'node-loss') {
        say('\n--- node-loss ---');
        const peers = others.swarm === undefined ? [own] : [others.swarm, own];
        const rounds = (peer: Peer['id']) => lossesOf(peer, options);
        await nodeLossCase({ bed, peers, rounds, measurements, say });
      } else await comparisons[one](changeCase(run, one, others));
    }
  });
  return idle;
};

/** Swarm is there from the first case that it takes part in to the last one. */
const amongOthers = async (
  { bed, options }: Run,
  section: MachinesSection,
  work: (others: Others) => Promise<void>,
): Promise<void> => {
  if (options.alone) return work({ direct: [], swarm: undefined });
  const swarm = await createSwarmPeer(bed);
  const direct = CALLS_AT_A_TIME[section].map((width) => createDockerPeer(bed, width));
  await work({ direct, swarm });
  await swarm.leave();
};

const changeCase = (run: Run, one: Case, { direct, swarm }: Others): ChangeCaseOptions => {
  const { bed, options, own, measurements, say } = run;
  say(`\n--- ${one} ---`);
  return {
    peers: [...direct, ...(swarm === undefined ? [] : [swarm]), own],
    rounds: roundsOf(one, options),
    measurements,
    say,
    cpu: watchCpu(bed),
  };
};
