// A schedule of faults and changes, out of a seed, and the doing of it.
// Invariants: the schedule is pure: the same seed and number give the same one, whatever the cluster does; at most two
// faults hold at a time, each on a node of its own; whoever applies it takes back all that holds in the end.
import type { DockerEngine } from '../engine';
import { LABEL } from '../../../contracts/docker';
import type { Role } from '../product-process';
import { eventually } from '../wait';
import type { Cluster } from './cluster';
import type { ClusterNode } from './cluster-node';
import { untilHealth } from './faults';

/** A fault that holds until it is taken back, and one that is over at once. */
export type LastingFault =
  'cut' | 'power' | 'freeze-node' | 'freeze-consul' | 'engine-killed' | 'engine-stopped' | 'drain';
export type MomentaryFault =
  | { readonly kind: 'kill'; readonly role: Role }
  | { readonly kind: 'restart' }
  | { readonly kind: 'power-cycle' }
  | { readonly kind: 'kill-container'; readonly choice: number };

export type Step =
  | { readonly kind: 'fault'; readonly node: string; readonly fault: LastingFault; readonly noticed: boolean }
  | { readonly kind: 'heal'; readonly node: string; readonly fault: LastingFault }
  | { readonly kind: 'moment'; readonly node: string; readonly fault: MomentaryFault }
  | { readonly kind: 'scale'; readonly name: string; readonly scale: number }
  | { readonly kind: 'deploy'; readonly name: string; readonly version: string; readonly scale: number }
  | { readonly kind: 'restart-all'; readonly name: string }
  | { readonly kind: 'remove'; readonly name: string }
  /** Everything is whole again, and has to be as desired. */
  | { readonly kind: 'check' };

export interface ScheduleOptions {
  readonly seed: number;
  /** Of faults; changes and heals come on top. */
  readonly faults: number;
  readonly head: string;
  readonly members: readonly string[];
  /** Microservices that may be scaled, deployed, restarted, removed and made again. */
  readonly changeable: readonly string[];
}

const MOST_AT_ONCE = 2;
const FAULTS_BETWEEN_CHECKS = 6;
const MOST_REPLICAS = 4;

const LASTING: readonly LastingFault[] = [
  'cut',
  'power',
  'freeze-node',
  'freeze-consul',
  'engine-killed',
  'engine-stopped',
  'drain',
];
const HEAD_ROLES: readonly Role[] = ['temporal', 'consul', 'control-plane', 'node', 'api'];
const MEMBER_ROLES: readonly Role[] = ['consul', 'node'];

/**
 * What CONTAINEROS_TEST_FAULT_SEED and CONTAINEROS_TEST_FAULTS choose, in which `npm run faults` says what its flags say.
 *
 * @throws {Error} for what is no number: it would be a schedule without faults
 */
export function readSchedule(
  environment: Readonly<Record<string, string | undefined>>,
): Pick<ScheduleOptions, 'seed' | 'faults'> {
  const numberOf = (variable: string, fallback: number, least: number): number => {
    const text = environment[variable] || String(fallback);
    if (/^\d+$/.test(text) && Number(text) >= least) return Number(text);
    throw new Error(`${variable} has to be a whole number, ${least} at least, not "${text}"`);
  };
  return {
    seed: numberOf('CONTAINEROS_TEST_FAULT_SEED', 1, 0),
    faults: numberOf('CONTAINEROS_TEST_FAULTS', 30, 1),
  };
}

/** mulberry32: small, and the same everywhere. */
const createRandom = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
};

export function createSchedule(options: ScheduleOptions): readonly Step[] {
  const { head, members, changeable } = options;
  const random = createRandom(options.seed);
  const pick = <T>(from: readonly T[]): T => {
    const found = from[Math.floor(random() * from.length)];
    if (found === undefined) throw new Error('there is nothing to choose from');
    return found;
  };
  const steps: Step[] = [];
  const open: { readonly node: string; readonly fault: LastingFault }[] = [];
  const healOldest = (): void => {
    const oldest = open.shift();
    if (oldest !== undefined) steps.push({ kind: 'heal', ...oldest });
  };
  const moment = (): Step => {
    // What is done to a node that is down is no fault.
    const node = pick([head, ...members].filter((name) => !open.some((each) => each.node === name)));
    const fault = pick(['kill', 'kill', 'restart', 'power-cycle', 'kill-container'] as const);
    switch (fault) {
      case 'kill':
        return {
          kind: 'moment',
          node,
          fault: { kind: fault, role: pick(node === head ? HEAD_ROLES : MEMBER_ROLES) },
        };
      case 'kill-container':
        return { kind: 'moment', node, fault: { kind: fault, choice: Math.floor(random() * 1_000) } };
      case 'restart':
      case 'power-cycle':
        return { kind: 'moment', node, fault: { kind: fault } };
    }
  };
  const change = (): Step => {
    const name = pick(changeable);
    const scale = Math.floor(random() * (MOST_REPLICAS + 1));
    switch (pick(['scale', 'scale', 'deploy', 'deploy', 'restart-all', 'remove'] as const)) {
      case 'scale':
        return { kind: 'scale', name, scale };
      case 'deploy':
        return { kind: 'deploy', name, version: pick(['v1', 'v2']), scale };
      case 'restart-all':
        return { kind: 'restart-all', name };
      case 'remove':
        return { kind: 'remove', name };
    }
  };
  for (let at = 1; at <= options.faults; at += 1) {
    if (random() < 0.4) steps.push(moment());
    else {
      if (open.length === MOST_AT_ONCE) healOldest();
      const node = pick(members.filter((name) => !open.some((each) => each.node === name)));
      const fault = pick(LASTING);
      steps.push({ kind: 'fault', node, fault, noticed: random() < 0.5 });
      open.push({ node, fault });
    }
    if (random() < 0.6) steps.push(change());
    if (at % FAULTS_BETWEEN_CHECKS === 0 || at === options.faults) {
      while (open.length > 0) healOldest();
      steps.push({ kind: 'check' });
    }
  }
  return steps;
}

export const describeSchedule = (steps: readonly Step[]): string =>
  steps.map((step, i) => `${String(i + 1).padStart(3)} ${JSON.stringify(step)}`).join('\n');

/** What a fault is seen as, where the API shows it; the others are not seen from the outside. */
const SEEN_AS: Readonly<Partial<Record<LastingFault, string>>> = {
  cut: 'lost',
  power: 'lost',
  'freeze-consul': 'lost',
  'engine-killed': 'degraded',
  'engine-stopped': 'degraded',
};

const availability = async ({ instance }: Cluster, node: string, verb: 'drain' | 'uncordon'): Promise<void> =>
  eventually(
    async () => {
      const { status, text } = await instance.api('POST', `/v1/nodes/${node}/${verb}`);
      if (status !== 200) throw new Error(`${status} ${text}`);
    },
    { timeoutMs: 60_000, describe: `the API takes the ${verb} of ${node}` },
  );

export async function inflict(
  cluster: Cluster,
  { node: name, fault, noticed }: Step & { readonly kind: 'fault' },
): Promise<void> {
  const node = cluster.node(name);
  switch (fault) {
    case 'cut':
      await node.cut();
      break;
    case 'power':
      await node.powerOff();
      break;
    case 'freeze-node':
      await freezeWhenThere(node, 'node');
      break;
    case 'freeze-consul':
      await freezeWhenThere(node, 'consul');
      break;
    case 'engine-killed':
      await node.engine.kill();
      break;
    case 'engine-stopped':
      await node.stopEngine();
      break;
    case 'drain':
      await availability(cluster, name, 'drain');
      break;
  }
  const seenAs = SEEN_AS[fault];
  if (noticed && seenAs !== undefined) await untilHealth(cluster, name, seenAs, 90_000);
}

/** It may be between two starts. */
const freezeWhenThere = (node: ClusterNode, role: Role): Promise<void> =>
  eventually(() => node.freeze(role), { timeoutMs: 30_000, describe: `${role} of ${node.name} is frozen` });

export async function takeBack(
  cluster: Cluster,
  { node: name, fault }: Step & { readonly kind: 'heal' },
): Promise<void> {
  const node = cluster.node(name);
  switch (fault) {
    case 'cut':
      return node.heal();
    case 'power':
      return node.powerOn();
    case 'freeze-node':
    case 'freeze-consul':
      return thawIfThere(node, fault === 'freeze-node' ? 'node' : 'consul');
    case 'engine-killed':
    case 'engine-stopped':
      return node.startEngine();
    case 'drain':
      return availability(cluster, name, 'uncordon');
  }
}

/** Its supervisor may have ended what hung, and starts it again. */
function thawIfThere(node: ClusterNode, role: Role): void {
  try {
    node.thaw(role);
  } catch (error) {
    if (!(error as Error).message.includes('does not run')) throw error;
  }
}

export async function strike(
  cluster: Cluster,
  { node: name, fault }: Step & { readonly kind: 'moment' },
): Promise<void> {
  const node = cluster.node(name);
  switch (fault.kind) {
    case 'kill':
      return eventually(() => node.kill(fault.role), { describe: `${fault.role} of ${name} is killed` });
    case 'restart':
      return node.restart();
    case 'power-cycle':
      await node.powerOff();
      return node.powerOn();
    case 'kill-container':
      return killContainer(node.engine, cluster.instance.clusterId(), fault.choice);
  }
}

/** Any of them, also one that only holds a network; none when there is none. */
async function killContainer({ docker }: DockerEngine, clusterId: string, choice: number): Promise<void> {
  const label = [`${LABEL.cluster}=${clusterId}`];
  const running = await docker.listContainers({ filters: JSON.stringify({ label }) });
  const chosen = [...running].sort((a, b) => a.Names.join().localeCompare(b.Names.join()))[
    choice % Math.max(1, running.length)
  ];
  if (chosen === undefined) return;
  await docker
    .getContainer(chosen.Id)
    .kill()
    .catch((error: { readonly statusCode?: number }) => {
      // It has ended, or is gone, since.
      if (error.statusCode !== 404 && error.statusCode !== 409) throw error;
    });
}
