// The flags of `npm run bench`. Pure.
import { parseArgs } from 'node:util';
import type { PeerId } from './measurements';
import type { Section } from './table';

/** By section, in the order in which they run. Idling first, when nothing has happened yet; then Swarm is there. */
export const CASES = {
  engine: ['idle', 'deploy', 'kill', 'scale', 'deploys', 'reads'],
  cluster: ['cluster-idle', 'cluster-deploy', 'cluster-kill', 'cluster-scale', 'node-loss'],
  ingress: ['ingress-requests', 'ingress-changes', 'ingress-scale'],
} as const satisfies Record<Section, readonly string[]>;

export type EngineCase = (typeof CASES)['engine'][number];
export type ClusterCase = (typeof CASES)['cluster'][number];
export type IngressCase = (typeof CASES)['ingress'][number];
export type Case = EngineCase | ClusterCase | IngressCase;

export const SECTIONS: readonly Section[] = ['engine', 'cluster', 'ingress'];
const ALL: readonly Case[] = SECTIONS.flatMap((section): readonly Case[] => CASES[section]);

const ROUNDS: Readonly<Record<Case, number>> = {
  idle: 1,
  deploy: 5,
  kill: 5,
  scale: 3,
  deploys: 3,
  reads: 3,
  'cluster-idle': 1,
  'cluster-deploy': 5,
  'cluster-kill': 5,
  'cluster-scale': 3,
  'node-loss': 20,
  'ingress-requests': 5,
  'ingress-changes': 20,
  'ingress-scale': 5,
};
/** Swarm takes so long over a loss that it gets fewer. */
const SWARM_LOSSES = 5;

export const HELP = `npm run bench [-- FLAGS]
  --only CASE,…       only these cases:
                        on one machine: ${CASES.engine.join(', ')}
                        on three: ${CASES.cluster.join(', ')}
                        of the ingress alone: ${CASES.ingress.join(', ')}
                      docs/benchmarks.md stays as it is where not all cases of a section are measured
  --write             write docs/benchmarks.md all the same
  --alone             ContainerOS without its peers
  --rounds N          so many counted rounds of each case (node-loss, ingress-changes: ${ROUNDS['node-loss']})
  --swarm-losses N    so many of node-loss for Swarm (${SWARM_LOSSES})
  --json FILE         raw numbers into this file
  --log FILE          what ContainerOS wrote into this file`;

export interface Options {
  readonly cases: readonly Case[];
  readonly alone: boolean;
  readonly rounds: number | undefined;
  readonly swarmLosses: number | undefined;
  readonly write: boolean;
  readonly json: string | undefined;
  readonly log: string | undefined;
}

/**
 * @returns undefined when help is wanted
 * @throws Error that tells the person what is wrong with the flags
 */
export const parseOptions = (argv: readonly string[]): Options | undefined => {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string' },
      alone: { type: 'boolean' },
      rounds: { type: 'string' },
      'swarm-losses': { type: 'string' },
      write: { type: 'boolean' },
      json: { type: 'string' },
      log: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) return undefined;
  const cases = (values.only ?? ALL.join(',')).split(',').map((given) => {
    const found = ALL.find((known) => known === given.trim());
    if (found === undefined) throw new Error(`there is no case ${given}; the cases are ${ALL.join(', ')}`);
    return found;
  });
  return {
    cases,
    alone: values.alone === true,
    rounds: readCount('--rounds', values.rounds),
    swarmLosses: readCount('--swarm-losses', values['swarm-losses']),
    write: values.write === true,
    json: values.json,
    log: values.log,
  };
};

const readCount = (flag: string, text: string | undefined): number | undefined => {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d?$/.test(text)) throw new Error(`${flag} must be a number from 1 to 99, not ${text}`);
  return Number(text);
};

/** What decides the figures; where they are written to does not. */
export const commandOf = ({ cases, alone, rounds, swarmLosses }: Options): string => {
  const flags = [
    ...(cases.length === ALL.length ? [] : [`--only ${cases.join(',')}`]),
    ...(alone ? ['--alone'] : []),
    ...(rounds === undefined ? [] : [`--rounds ${rounds}`]),
    ...(swarmLosses === undefined ? [] : [`--swarm-losses ${swarmLosses}`]),
  ];
  return ['npm run bench', ...(flags.length > 0 ? ['--', ...flags] : [])].join(' ');
};

/** The wanted cases of a section, in the order in which they were named. */
export const casesOf = <S extends Section>(section: S, { cases }: Options): (typeof CASES)[S][number][] => {
  const known: readonly Case[] = CASES[section];
  return cases.filter((one): one is (typeof CASES)[S][number] => known.includes(one));
};

/** Whether the document gets what was measured in a section: it must not lack cases or peers by accident. */
export const isWritten = (section: Section, options: Options): boolean => {
  const wanted = casesOf(section, options);
  if (wanted.length === 0) return false;
  return options.write || (new Set(wanted).size === CASES[section].length && !options.alone);
};

export const roundsOf = (one: Case, { rounds }: Options): number => rounds ?? ROUNDS[one];

/** How many losses of a node are counted for a peer. */
export const lossesOf = (peer: PeerId, options: Options): number => {
  const most = roundsOf('node-loss', options);
  return peer === 'swarm' ? Math.min(most, options.swarmLosses ?? SWARM_LOSSES) : most;
};
