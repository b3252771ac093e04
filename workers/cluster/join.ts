/**
 * Makes this machine a node of a cluster, with a join token.
 *
 * Invariants: nothing is sent before the cluster has shown the authority that the token names, but that this machine gives
 * up, and why; the key is kept before
 * its request is sent, so that a join whose answer was lost is the same join again; a data directory is a control
 * plane's, a member's, or nobody's, and one process at a time joins with it; no token is used by a machine of which it
 * can be told beforehand that it could not be a node.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';

import Docker from 'dockerode';

import { readEngineInfo } from '../../adapters/docker/engine-info';
import { JOIN_PATH, type JoinAnswer, type JoinGivenUp, type JoinRequest } from '../../contracts/join';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import { parseJoinToken } from '../../domain/join-token';
import { DEFAULT_CLUSTER_PORT, type Config } from '../config';
import { openRunDirectory, unusable } from '../installation';
import { lockDataDirectory } from '../up/data-directory-lock';
import { version } from '../version';

import { askCluster, fetchAuthority, tellGivenUp } from './ask-cluster';
import {
  memberTlsFiles,
  readMemberKey,
  readMembership,
  writeMemberClusterKey,
  writeMemberKey,
  writeMembership,
  type Membership,
} from './membership';
import { assertReachable } from './run-member';

export interface JoinTarget {
  /** host:port of the cluster port. */
  readonly address: string;
  readonly token: string;
}

/** What only a machine with a control plane has in its data directory. */
const CONTROL_PLANE_MARKS = ['cluster-id', 'temporal'];

/**
 * @param text host or host:port, as somebody typed it; an IPv6 address with a port is in brackets
 * @throws {ContainerOsError} `invalid`
 */
export const parseClusterAddress = (text: string): string => {
  const isBareIpv6 = /^[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:.]*$/i.test(text);
  const url = `https://${isBareIpv6 ? `[${text}]` : text}`;
  const isPlain = /^[a-z0-9.:[\]-]+$/i.test(text) && URL.canParse(url);
  if (!isPlain) {
    throw new ContainerOsError(
      'invalid',
      `"${text}" is no address of a cluster. Give the address and port that the first machine printed, like 192.168.1.10:${DEFAULT_CLUSTER_PORT}.`,
    );
  }
  const hasPort = /:\d+$/.test(isBareIpv6 ? '' : text);
  const { hostname } = new URL(url);
  return hasPort ? text : `${hostname}:${DEFAULT_CLUSTER_PORT}`;
};

const JOIN_TOKEN = 'CONTAINEROS_JOIN_TOKEN';

/**
 * @param argv what follows `join`: the address first, the token anywhere, and flags of `up`
 * @throws {ContainerOsError} `invalid` when something is missing
 */
export const readJoinArguments = (
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): JoinTarget & { readonly flags: readonly string[] } => {
  const [address, ...rest] = argv;
  const usage = 'Use: containeros join ADDRESS --token TOKEN. The first machine prints the whole command.';
  if (address === undefined || address.startsWith('-')) {
    throw new ContainerOsError('invalid', `The address of the cluster is missing. ${usage}`);
  }
  const flags: string[] = [];
  let token = environment[JOIN_TOKEN];
  for (let at = 0; at < rest.length; at += 1) {
    const one = rest[at] ?? '';
    if (one === '--token') token = rest[(at += 1)];
    else if (one.startsWith('--token=')) token = one.slice('--token='.length);
    else flags.push(one);
  }
  if (token === undefined || token === '') {
    throw new ContainerOsError('invalid', `The join token is missing. ${usage}`);
  }
  return { address: parseClusterAddress(address), token, flags };
};

const readDocker = async (socketPath: string): Promise<{ version: string; architecture: string }> => {
  try {
    const { version: found, architecture } = await readEngineInfo(new Docker({ socketPath }));
    if (typeof found === 'string' && typeof architecture === 'string')
      return { version: found, architecture };
    throw new Error('what answers is no Docker Engine');
  } catch (error) {
    throw new ContainerOsError(
      'unavailable',
      `The Docker Engine at ${socketPath} cannot be used, and a node needs one: ${(error as Error).message}. Start it, or name its socket with --docker-socket.`,
      [],
      { cause: error },
    );
  }
};

const openSigningRequest = async (config: Config) => {
  const { createSigningRequest } = await import('../../adapters/certificates/authority.js');
  const keyPem = readMemberKey(config);
  try {
    return await createSigningRequest(config.nodeId, keyPem);
  } catch (error) {
    const { keyFile } = memberTlsFiles(config);
    throw new ContainerOsError(
      'invalid',
      `The key in ${keyFile}, with which this machine began to join before, cannot be read: ${(error as Error).message}. Remove the file, and join again; if the cluster has node ${config.nodeId} meanwhile, have it removed there (containeros remove ${config.nodeId} --force).`,
      [],
      { cause: error },
    );
  }
};

/** @throws {ContainerOsError} `invalid` when nothing can be written there */
const kept = <T>(config: Config, write: () => T): T => {
  try {
    return write();
  } catch (error) {
    if (error instanceof ContainerOsError) throw error;
    throw unusable(config, error);
  }
};

type GivenUpBy = Partial<Record<ErrorCode, JoinGivenUp['givenUp']>>;

/** Has the cluster hear why this machine does not ask it, by the code of what `find` throws. */
const orGiveUp = async <T>(address: string, find: () => T | Promise<T>, by: GivenUpBy): Promise<T> => {
  try {
    return await find();
  } catch (error) {
    const givenUp = error instanceof ContainerOsError ? by[error.code] : undefined;
    if (givenUp !== undefined) await tellGivenUp(address, givenUp);
    throw error;
  }
};

/**
 * @returns the membership, also when the machine had joined this cluster before
 * @throws {ContainerOsError} what keeps it from joining, in words
 */
export const joinCluster = async (config: Config, target: JoinTarget): Promise<Membership> => {
  assertReachable(config);
  const { authorityFingerprint } = await orGiveUp(target.address, () => parseJoinToken(target.token), {
    invalid: 'token',
  });
  openRunDirectory(config);
  const known = readMembership(config);
  if (known?.authorityFingerprint === authorityFingerprint) return known;
  if (known !== undefined) {
    throw new ContainerOsError(
      'conflict',
      `This machine is node ${known.nodeId} of another cluster, that at ${known.clusterAddress}. Leave it first with containeros leave, or choose another --data-dir.`,
    );
  }
  if (CONTROL_PLANE_MARKS.some((mark) => existsSync(join(config.dataDir, mark)))) {
    throw new ContainerOsError(
      'conflict',
      `The data directory ${config.dataDir} has a control plane of its own, which containeros up has made. Choose another with --data-dir; or, if nothing of it is needed any more, remove the directory.`,
    );
  }
  const unlock = kept(config, () => lockDataDirectory(config));
  try {
    return await askToJoin(config, target);
  } finally {
    unlock();
  }
};

const askToJoin = async (config: Config, { address, token }: JoinTarget): Promise<Membership> => {
  const { id, secret, authorityFingerprint } = parseJoinToken(token);
  const authorityPem = await orGiveUp(address, () => fetchAuthority(address, authorityFingerprint), {
    forbidden: 'cluster',
    invalid: 'clock',
  });
  const docker = await readDocker(config.dockerSocket);
  const { keyPem, signingRequestPem } = await openSigningRequest(config);
  kept(config, () => writeMemberKey(config, keyPem));
  const request: JoinRequest = {
    tokenId: id,
    secret,
    nodeId: config.nodeId,
    signingRequestPem,
    nowMs: Date.now(),
    dockerVersion: docker.version,
    architecture: docker.architecture,
    containerosVersion: version(),
  };
  const answer = await askCluster<JoinAnswer>({
    address,
    path: JOIN_PATH,
    body: request,
    credentials: { authorityPem },
  });
  const membership: Membership = {
    nodeId: config.nodeId,
    clusterId: answer.clusterId,
    clusterAddress: address,
    authorityFingerprint,
    temporalNamespace: answer.temporalNamespace,
    consul: answer.consul,
  };
  kept(config, () => {
    if (answer.clusterKey !== undefined) writeMemberClusterKey(config, answer.clusterKey);
    writeMembership(config, membership, { ...answer, authorityPem });
  });
  return membership;
};
