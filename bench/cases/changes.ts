// The cases in which all peers do the same: deploy, scale, kill, and many deploys.
// Invariants: one peer works at a time, and everything that it made is gone before the next one's turn; the order of
// the peers turns round in every round; the warm-up round is not counted.
import { METRICS, isDirect, type Measurements, type Metric, type PeerId } from '../measurements';
import { timed, type Peer } from '../peer';
import { best, orderOf } from '../statistics';

export interface ChangeCaseOptions {
  readonly peers: readonly Peer[];
  readonly rounds: number;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
  /** Begins to watch; what it returns tells the CPU seconds used since. */
  readonly cpu: () => () => string;
}

type Body = (peer: Peer, name: string, measurements: Measurements) => Promise<void>;

/** What is asked for, and as what it is measured: it differs with the number of machines. */
export interface ChangeSizes {
  readonly deploy: { readonly replicas: number; readonly metric: Metric };
  readonly scale: { readonly from: number; readonly to: number; readonly up: Metric; readonly down: Metric };
  readonly kill: { readonly metric: Metric; readonly known: Metric };
}

export const ON_ONE_ENGINE: ChangeSizes = {
  deploy: { replicas: 6, metric: METRICS.deploy },
  scale: { from: 1, to: 30, up: METRICS.scaleUp, down: METRICS.scaleDown },
  kill: { metric: METRICS.kill, known: METRICS.killKnown },
};

export const ON_THREE_ENGINES: ChangeSizes = {
  deploy: { replicas: 6, metric: METRICS.clusterDeploy },
  scale: { from: 6, to: 60, up: METRICS.clusterScaleUp, down: METRICS.clusterScaleDown },
  kill: { metric: METRICS.clusterKill, known: METRICS.clusterKillKnown },
};

const MANY_SERVICES = 200;
const WARM_UP_SERVICES = 40;
const REQUESTS_AT_ONCE = 16;

const inRounds = async (
  { peers, rounds, measurements, say, cpu }: ChangeCaseOptions,
  title: string,
  body: Body,
): Promise<void> => {
  for (let round = -1; round < rounds; round += 1) {
    const isWarmUp = round === -1;
    for (const peer of orderOf(peers, Math.max(0, round))) {
      const kept: string[] = [];
      const add: Measurements['add'] = (metric, id, value) => {
        kept.push(`${metric.title} ${(value / 1000).toFixed(2)} s`);
        if (!isWarmUp) measurements.add(metric, id, value / 1000);
      };
      const used = cpu();
      try {
        await body(peer, `${title}-${round + 1}`, { ...measurements, add });
        kept.push(`CPU seconds: ${used()}`);
      } finally {
        await peer.clear();
      }
      say(`${isWarmUp ? 'warm-up' : `round ${round + 1}`}  ${peer.id.padEnd(12)} ${kept.join('; ')}`);
    }
  }
};

export const deployCase = (
  options: ChangeCaseOptions,
  { replicas, metric }: ChangeSizes['deploy'],
): Promise<void> =>
  inRounds(options, 'deploy', async (peer, name, { add }) => {
    add(metric, peer.id, await timed(() => peer.deploy(name, replicas)));
  });

export const scaleCase = (
  options: ChangeCaseOptions,
  { from, to, up, down }: ChangeSizes['scale'],
): Promise<void> =>
  inRounds(options, 'scale', async (peer, name, { add }) => {
    const deployed = await peer.deploy(name, from);
    add(up, peer.id, await timed(() => deployed.scale(to)));
    add(down, peer.id, await timed(() => deployed.scale(from)));
  });

export const killCase = (
  options: ChangeCaseOptions,
  { metric, known }: ChangeSizes['kill'],
): Promise<void> => {
  // One container: how many calls are made at a time makes no difference.
  const [direct] = options.peers.filter(({ id }) => isDirect(id));
  const peers = options.peers.filter((peer) => !isDirect(peer.id) || peer === direct);
  return inRounds({ ...options, peers }, 'kill', async (peer, name, { add }) => {
    const deployed = await peer.deploy(name, 1);
    const { servesMs, knownMs } = await deployed.killAndRecover();
    add(metric, peer.id, servesMs);
    if (knownMs !== undefined) add(known, peer.id, knownMs);
  });
};

/** Slow, so that the number of direct calls at a time is chosen beforehand, with fewer services. */
export const deploysCase = async (options: ChangeCaseOptions): Promise<void> => {
  const { peers, say } = options;
  const names = (title: string, count: number) =>
    Array.from({ length: count }, (_, index) => `${title}-${index}`);
  const trials = new Map<PeerId, readonly number[]>();
  for (const peer of peers.filter(({ id }) => isDirect(id))) {
    const ms = await timed(() => peer.deployMany(names('trial', WARM_UP_SERVICES), REQUESTS_AT_ONCE));
    await peer.clear();
    trials.set(peer.id, [ms]);
    say(`trial    ${peer.id.padEnd(12)} ${WARM_UP_SERVICES} in ${(ms / 1000).toFixed(2)} s`);
  }
  const chosen = best(trials);
  const compared = peers.filter(({ id }) => !isDirect(id) || id === chosen);
  await inRounds({ ...options, peers: compared }, 'many', async (peer, name, { add }) => {
    const count = name === 'many-0' ? WARM_UP_SERVICES : MANY_SERVICES;
    add(METRICS.deploys, peer.id, await timed(() => peer.deployMany(names(name, count), REQUESTS_AT_ONCE)));
  });
};
