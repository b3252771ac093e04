/**
 * Takes this machine out of the cluster that it has joined.
 *
 * Invariants: unless forced, nothing stops here before it runs elsewhere; asked again after whatever went wrong, it
 * goes on; what has left keeps neither identity nor containers of the cluster, but named volumes stay: it is as new, so
 * that `containeros up` starts a cluster of its own, which is said.
 */

import { setTimeout as delay } from 'node:timers/promises';

import Docker from 'dockerode';
import type { Logger } from 'pino';

import { createEngineContainers } from '../../adapters/docker/engine-containers';
import { REVOKED_WORDS, nodeLeavePath, type LeaveAnswer } from '../../contracts/join';
import { ContainerOsError } from '../../domain/errors';
import type { Config } from '../config';
import { supervisorOf } from '../up/data-directory-lock';

import { askCluster } from './ask-cluster';
import { forgetGossipTiming } from './gossip-timing';
import { readCredentials, readMembership, removeMembership, type Membership } from './membership';

/** More than the cluster waits before it answers. */
const ASK_TIMEOUT_MS = 40_000;
const ATTEMPTS = 4;
const RETRY_MS = 1_000;
const STOP_LIMIT_MS = 30_000;
const LOOK_EVERY_MS = 50;

const LEFT: LeaveAnswer = { hasLeft: true, replicas: 0, microservices: [] };

const INTERRUPTED = 'Interrupted, the node stays, drained as far as it is; --force leaves at once.';

/** @returns what a node that wants to leave waits for, a line for each thing that stands in the way */
export const waitInWords = ({ replicas, microservices, troubles = [] }: LeaveAnswer): string => {
  const moving =
    replicas === 0
      ? 'What is left here stops.'
      : `${replicas} ${replicas === 1 ? 'replica has' : 'replicas have'} to start elsewhere first: ${microservices.join(', ')}.`;
  return [`${moving} ${INTERRUPTED}`, ...troubles.map((trouble) => `  ${trouble}`)].join('\n');
};

/** The connection ends with the node's identity, so that the answer of its removal is often lost: asked again, it tells. */
const ask = async (
  config: Config,
  membership: Membership,
  force: boolean,
  attempts = ATTEMPTS,
): Promise<LeaveAnswer> => {
  try {
    return await askCluster<LeaveAnswer>({
      address: membership.clusterAddress,
      path: nodeLeavePath(membership.nodeId),
      body: { force },
      credentials: readCredentials(config),
      timeoutMs: ASK_TIMEOUT_MS,
    });
  } catch (error) {
    if (!(error instanceof ContainerOsError)) throw error;
    // Any other refusal, as of a certificate that has run out, says nothing of whether the node is still counted on.
    if (error.code === 'forbidden' && error.message.includes(REVOKED_WORDS)) return LEFT;
    if (error.code !== 'unavailable' || attempts <= 1) throw error;
    await delay(RETRY_MS);
    return ask(config, membership, force, attempts - 1);
  }
};

const stopSupervisor = async (config: Config): Promise<void> => {
  const pid = supervisorOf(config);
  if (pid === undefined) return;
  process.kill(pid, 'SIGTERM');
  const endMs = performance.now() + STOP_LIMIT_MS;
  while (supervisorOf(config) === pid) {
    if (performance.now() > endMs) {
      throw new ContainerOsError(
        'unavailable',
        `The node was removed from the cluster, but its ContainerOS (process ${pid}) does not stop. End it, and run containeros leave again.`,
      );
    }
    await delay(LOOK_EVERY_MS);
  }
};

/** @returns how many there were */
const removeContainers = async ({ dockerSocket }: Config, { clusterId }: Membership): Promise<number> => {
  const engine = createEngineContainers(new Docker({ socketPath: dockerSocket }), clusterId);
  const containers = await engine.list();
  for (const { id } of containers) await engine.remove(id);
  return containers.length;
};

/**
 * @param options.force leave although replicas run here, and although the cluster cannot be told
 * @param write for people, as it happens
 * @returns the exit code
 * @throws {ContainerOsError} `not_found` when the machine is no node; `conflict` when it cannot leave
 */
export const leaveCluster = async (
  config: Config,
  options: { readonly force: boolean },
  write: (line: string) => void,
  logger: Logger,
): Promise<number> => {
  const membership = readMembership(config);
  if (membership === undefined) {
    throw new ContainerOsError(
      'not_found',
      `This machine is no node of a cluster, as far as ${config.dataDir} knows. Name the data directory that it joined with by --data-dir.`,
    );
  }
  const { nodeId } = membership;
  let told = '';
  try {
    for (;;) {
      const answer = await ask(config, membership, options.force);
      if (answer.hasLeft) break;
      const words = waitInWords(answer);
      if (words !== told) write(words);
      told = words;
    }
  } catch (error) {
    if (!options.force) throw error;
    logger.warn({ err: error }, 'the cluster could not be told');
    write(`The cluster could not be told. Tell it there: containeros remove ${nodeId} --force`);
  }
  await stopSupervisor(config);
  const containers = await removeContainers(config, membership);
  forgetGossipTiming(config);
  removeMembership(config);
  write(
    `Node ${nodeId} has left the cluster at ${membership.clusterAddress}.${containers === 0 ? '' : ` ${containers} of its containers were removed here; named volumes stay.`}`,
  );
  write(
    'The machine is free: containeros join makes it a node of this or another cluster; containeros up would start a cluster of its own here.',
  );
  return 0;
};
