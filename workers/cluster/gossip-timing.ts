/**
 * The timing of the gossip that this machine's Consul agent has, and who decides on it.
 *
 * Invariants: one process decides for the whole cluster, that on the head node (docs/decisions/gossip-profile.md); an
 * agent takes a timing at its start only, so what was decided is a file that every start reads. On the way to `wan` the
 * head goes first, as it is its word that has replicas moved, and last on the way back.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';

import type { Logger } from 'pino';

import { createConsulClient, type ConsulClient } from '../../adapters/consul/consul-client';
import { measureFarthest, ownCoordinate } from '../../adapters/consul/round-trips';
import { nodeCoordinatePath, type CoordinateAnswer, type CoordinateReport } from '../../contracts/gossip';
import { FIRST_DECISION, decideGossip, type GossipTiming } from '../../domain/gossip-profile';
import { consulAddressOf, type Config } from '../config';
import { readIfThere, writePrivateFile } from '../installation';

import { askCluster } from './ask-cluster';
import { readCredentials, type Membership } from './membership';

/** Members ask in every period, once, and their agents take some seconds to start. */
const HEAD_LAST_PERIODS = 2.5;

const fileOf = ({ dataDir }: Pick<Config, 'dataDir'>): string => join(dataDir, 'gossip-timing');

/** What the agent of this machine is started with. */
export const readGossipTiming = (config: Pick<Config, 'dataDir'>): GossipTiming =>
  readIfThere(fileOf(config)) === 'wan' ? 'wan' : FIRST_DECISION.timing;

export const writeGossipTiming = (config: Pick<Config, 'dataDir'>, timing: GossipTiming): void =>
  writePrivateFile(fileOf(config), `${timing}\n`);

/** What one cluster has decided on says nothing of another. */
export const forgetGossipTiming = (config: Pick<Config, 'dataDir'>): void =>
  rmSync(fileOf(config), { force: true });

export interface GossipTimer {
  stop(): void;
}

export interface GossipDecider extends GossipTimer {
  /** What the agents of members are to have. */
  timing(): GossipTiming;
}

/**
 * Decides once in every period (a minute, `config.gossipEveryMs`), on the head node.
 *
 * @param consul with a token that may read all coordinates
 * @param onTiming called when the agent of this machine is to have another timing
 */
export const decideGossipTiming = (
  config: Config,
  consul: ConsulClient,
  log: Logger,
  onTiming: (timing: GossipTiming) => void,
): GossipDecider => {
  const everyMs = config.gossipEveryMs;
  let decision = { ...FIRST_DECISION, timing: readGossipTiming(config) };
  let last: NodeJS.Timeout | undefined;

  const look = async (): Promise<void> => {
    const farthest = await measureFarthest(consul);
    const before = decision.timing;
    decision = decideGossip(
      decision,
      farthest.map(({ roundTripMs }) => roundTripMs),
    );
    const { timing } = decision;
    if (timing === before) return;
    log.info({ timing, farthest }, `the nodes are so far apart that the gossip gets the timing "${timing}"`);
    clearTimeout(last);
    last = setTimeout(() => onTiming(timing), timing === 'wan' ? 0 : HEAD_LAST_PERIODS * everyMs);
  };
  const timer = setInterval(() => {
    look().catch((error: unknown) => log.debug({ err: error }, 'round-trip times could not be measured'));
  }, everyMs);
  return {
    timing: () => decision.timing,
    stop: () => {
      clearInterval(timer);
      clearTimeout(last);
    },
  };
};

/**
 * Tells the cluster where this node is, once in every period, and hears which timing holds.
 *
 * @param onTiming called with each answer
 */
export const reportCoordinate = (
  config: Config,
  { nodeId, clusterAddress, consul: { token } }: Membership,
  log: Logger,
  onTiming: (timing: GossipTiming) => void,
): GossipTimer => {
  const consul = createConsulClient({ address: consulAddressOf(config), token });

  const report = async (): Promise<void> => {
    const body: CoordinateReport = { coordinate: await ownCoordinate(consul) };
    const { timing } = await askCluster<CoordinateAnswer>({
      address: clusterAddress,
      path: nodeCoordinatePath(nodeId),
      body,
      credentials: readCredentials(config),
    });
    onTiming(timing);
  };
  const timer = setInterval(() => {
    report().catch((error: unknown) => log.debug({ err: error }, 'the coordinate could not be told'));
  }, config.gossipEveryMs);
  return {
    stop: () => {
      clearInterval(timer);
      consul.close();
    },
  };
};
