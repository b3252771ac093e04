// The cable of a machine with replicas is pulled: how long users are still led to them, and how long they have fewer
// replicas than they asked for.
// Invariants: both peers are asked by the same code, from outside; the next loss comes when every machine counts as
// there for both peers, as both lose it; nothing that was made is left by then; the warm-up loss is not counted.
import type { DockerEngine } from '../../test/support/engine';
import type { Bed } from '../bed';
import { METRICS, type Measurements, type PeerId } from '../measurements';
import { askForPages, timed, until, untilListed, type Directory, type Orchestrator } from '../peer';
import { orderOf, takesPart } from '../statistics';

export interface NodeLossOptions {
  readonly bed: Pick<Bed, 'engines'>;
  readonly peers: readonly Orchestrator[];
  /** So many losses for each. */
  readonly rounds: (peer: PeerId) => number;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
}

const REPLICAS = 6;
const LOOK_EVERY_MS = 50;
const RETURN_TIMEOUT_MS = 180_000;

export const nodeLossCase = async (options: NodeLossOptions): Promise<void> => {
  const { bed, peers, rounds, measurements, say } = options;
  const [, ...workers] = bed.engines;
  const most = Math.max(...peers.map(({ id }) => rounds(id)));
  const turns = new Map<PeerId, number>();
  let meetings = 0;
  for (let round = -1; round < most; round += 1) {
    const isWarmUp = round === -1;
    const present = peers.filter(({ id }) => isWarmUp || takesPart(round, most, rounds(id)));
    // Not every round has all of them, so that those which have are counted: the order turns round in each.
    const order = orderOf(present, meetings);
    if (present.length > 1) meetings += 1;
    for (const peer of order) {
      const turn = turns.get(peer.id) ?? 0;
      turns.set(peer.id, turn + 1);
      const lost = workers[turn % workers.length];
      if (lost === undefined) throw new Error('there is no machine that may be lost');
      const report = await loseOnce(peers, peer, `loss-${round + 1}`, lost);
      const values = [
        [METRICS.lossTrafficOff, report.trafficOffMs],
        [METRICS.lossServes, report.servesMs],
        [METRICS.lossReturn, report.returnMs],
      ] as const;
      if (!isWarmUp) for (const [metric, ms] of values) measurements.add(metric, peer.id, ms / 1000);
      const told = values.map(([{ title }, ms]) => `${title} ${(ms / 1000).toFixed(2)} s`).join('; ');
      const when = isWarmUp ? 'warm-up' : `round ${round + 1}`;
      say(`${when}  ${peer.id.padEnd(12)} ${lost.hostname} with ${report.replicas}: ${told}`);
    }
  }
};

interface LossReport {
  /** Replicas on the machine that was lost. */
  readonly replicas: number;
  /** From the loss until nobody is led to the lost machine. */
  readonly trafficOffMs: number;
  /** From the loss until as many replicas as before have answered on the other machines. */
  readonly servesMs: number;
  /** From the machine's return until no more containers run than are wanted. */
  readonly returnMs: number;
}

const loseOnce = async (
  peers: readonly Orchestrator[],
  peer: Orchestrator,
  name: string,
  lost: DockerEngine,
): Promise<LossReport> => {
  const kept = await peer.deploy(name, REPLICAS);
  await peer.untilWhole();
  const directory = kept.directory();
  const replicas = (await directory.look()).filter((endpoint) => isOn(lost, endpoint)).length;
  if (replicas === 0) throw new Error(`${lost.hostname} has no replica of ${name} to lose`);
  const times = await watchLoss(directory, lost).finally(() => lost.plug());
  const returnMs = await timed(() =>
    until('the surplus is gone', async () => (await kept.runningContainers()) === REPLICAS, {
      pauseMs: LOOK_EVERY_MS,
      timeoutMs: RETURN_TIMEOUT_MS,
    }),
  );
  await Promise.all(peers.map((each) => each.untilWhole()));
  await peer.clear();
  return { replicas, ...times, returnMs };
};

const isOn = ({ address }: DockerEngine, endpoint: string): boolean => endpoint.startsWith(`${address}:`);

const watchLoss = async (
  directory: Directory,
  lost: DockerEngine,
): Promise<Pick<LossReport, 'trafficOffMs' | 'servesMs'>> => {
  const pages = askForPages();
  let elsewhere: readonly string[] = [];
  let trafficOffMs: number | undefined;
  const startedAt = performance.now();
  await lost.unplug();
  await untilListed(`${REPLICAS} replicas are given out, none on ${lost.hostname}`, directory, (listed) => {
    elsewhere = listed.filter((endpoint) => !isOn(lost, endpoint));
    pages.ask(elsewhere);
    // One that is given out again was not off.
    trafficOffMs =
      elsewhere.length === listed.length ? (trafficOffMs ?? performance.now() - startedAt) : undefined;
    return trafficOffMs !== undefined && elsewhere.length === REPLICAS;
  });
  await pages.answered(elsewhere);
  const servesMs = performance.now() - startedAt;
  if (trafficOffMs === undefined) throw new Error('it was seen that traffic is off, and not when');
  return { trafficOffMs, servesMs };
};
