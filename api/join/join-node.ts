/**
 * Lets a machine in as a node: checks its join token and what it is, and gives it a certificate.
 *
 * Invariants: identity, use of the token and event are written in one transaction, on condition that nothing of them
 * has changed, so a token is used as often as it may be, whatever happens at once and in how many processes; nobody
 * learns whether a token exists who does not know its secret; a name belongs to one live key. Who fails too often waits,
 * but not with a token that counts: others at the same address are not to be kept out, and 192 bits are not guessed.
 */

import { randomBytes, timingSafeEqual } from 'node:crypto';

import type { Authority, IssuedCertificate } from '../../contracts/authority';
import type { JoinAnswer, JoinRequest } from '../../contracts/join';
import type { KeyValueStore, KvFound } from '../../contracts/key-value-store';
import { eventKvKey, identityKvKey, joinTokenKvKey, nodeKvKey, nodeSettingsKvKey } from '../../contracts/kv';
import { clockDifferenceInWords, isClockOff } from '../../domain/clock-difference';
import { ContainerOsError } from '../../domain/errors';
import { isLive, isNodeId, type JoinToken, type NodeIdentity } from '../../domain/identity';
import { isJoinTokenId, whyUnusable, type UnusableReason } from '../../domain/join-token';
import type { ClusterEvent } from '../../domain/model';
import type { AttemptLimiter } from '../attempt-limiter';
import { ProblemError } from '../problem';

import { hashSecret } from './join-tokens';
import { GivenUp, Refusal, type RefusedJoins } from './refused-joins';

const OLDEST_DOCKER = { major: 20, minor: 10 };
/** As many joins may come in between as there are nodes to be; each of them is one that succeeded. */
const ATTEMPTS = 200;
const RESERVED_IDS = ['localhost'];
/** Of refusals of who has shown no token that counts. */
const TOKEN_REASONS: ReadonlySet<string> = new Set<'token' | UnusableReason>([
  'token',
  'revoked',
  'expired',
  'used_up',
]);

/** What a machine that was let in is given; the rest of a JoinAnswer is how it reaches the other parts. */
export interface Admission extends Pick<JoinAnswer, 'certificatePem' | 'authorityPem' | 'clusterId'> {
  readonly nodeId: string;
  /** Consul's index of the identity: the name is the machine's as long as that stays. */
  readonly identityIndex: number;
}

export interface JoinDeps {
  readonly store: KeyValueStore;
  readonly authority: Authority;
  readonly clusterId: string;
  /** Of the head node, which is a node without having joined. */
  readonly headNodeId: string;
  readonly limiter: AttemptLimiter;
  readonly refusedJoins: RefusedJoins;
  readonly nowMs: () => number;
  /** Told of an event that could not be written. */
  readonly onEventLost: (error: unknown) => void;
}

const randomSuffix = (): string => randomBytes(5).toString('hex');

const assertToken = (
  found: KvFound<JoinToken> | undefined,
  secret: string,
): KvFound<JoinToken> & { value: JoinToken } => {
  // Compared also when there is none, so that the time says nothing.
  const expected = Buffer.from(found?.value?.secretHash ?? '0'.repeat(64));
  const given = Buffer.from(hashSecret(secret));
  const isRight = expected.length === given.length && timingSafeEqual(expected, given);
  if (found?.value === undefined || !isRight) {
    throw new Refusal(
      'unauthenticated',
      'token',
      'The join token is not one of this cluster. Copy the whole token again, or make another one with POST /v1/join-tokens.',
    );
  }
  return { ...found, value: found.value };
};

const assertClock = (nodeMs: number, ownMs: number): void => {
  const differenceMs = nodeMs - ownMs;
  const isReadable = Number.isFinite(differenceMs);
  if (isReadable && !isClockOff(differenceMs)) return;
  const words = isReadable ? `${clockDifferenceInWords(differenceMs)} that of the cluster` : 'not readable';
  throw new Refusal(
    'invalid',
    'clock',
    `The clock of this machine is ${words}: a certificate would not be valid there. Set the clock (for example by NTP), and join again.`,
  );
};

const assertDocker = (version: string): void => {
  const [, major, minor] = /^([0-9]{1,4})\.([0-9]{1,4})(?:[.+~-]|$)/.exec(version) ?? [];
  const isKnown = major !== undefined && minor !== undefined;
  const isEnough =
    Number(major) > OLDEST_DOCKER.major ||
    (Number(major) === OLDEST_DOCKER.major && Number(minor) >= OLDEST_DOCKER.minor);
  if (isKnown && isEnough) return;
  throw new Refusal(
    'invalid',
    'docker',
    `A node needs Docker Engine 20.10 or newer, and this machine has ${isKnown ? `${major}.${minor}` : 'none whose version can be read'}. Install a newer one, and join again.`,
  );
};

/**
 * @param read the request; what it throws is a refusal like others
 * @param source address of the machine
 */
export type JoinNode = (read: () => JoinRequest, source: string) => Promise<Admission>;

/** Makes the function that answers joins. */
export const createJoinNode = (deps: JoinDeps): JoinNode => {
  const { store, authority, clusterId, headNodeId, limiter, refusedJoins, nowMs } = deps;

  const takenBy = (nodeId: string) =>
    new Refusal(
      'conflict',
      'name',
      `There is a node ${nodeId} already. Remove that node if it is gone for good (DELETE /v1/nodes/${nodeId}), or join under another name with --node-name.`,
    );

  /** One try; undefined when something changed meanwhile. */
  const attempt = async (
    request: JoinRequest,
    atMs: number,
  ): Promise<(IssuedCertificate & Pick<Admission, 'identityIndex'>) | undefined> => {
    const { tokenId, nodeId, signingRequestPem } = request;
    const tokenKey = joinTokenKvKey(tokenId);
    const stored = isJoinTokenId(tokenId) ? await store.get<JoinToken>(tokenKey) : undefined;
    const { value: token, index: tokenIndex } = assertToken(stored, request.secret);
    const mayBeNode = isNodeId(nodeId) && !RESERVED_IDS.includes(nodeId);
    const known = mayBeNode ? await store.get<NodeIdentity>(identityKvKey(nodeId)) : undefined;
    const identity = known?.value;

    /** Whether the request shows the key that the identity has. */
    const isSameKey = async (): Promise<boolean> => {
      if (identity === undefined || !isLive(identity, atMs)) return false;
      const read = await authority
        .readSigningRequest({ nodeId, signingRequestPem })
        .catch((error: unknown) => {
          if (error instanceof ContainerOsError) return undefined;
          throw error;
        });
      return read?.publicKeyHash === identity.publicKeyHash;
    };
    const isOwner = await isSameKey();
    const isWithSameToken = isOwner && identity?.joinedWith === tokenId && token.usedBy.includes(nodeId);
    // Who has been a node has the answer: what comes now was recorded, and would replace what the node shows.
    const isNode = isWithSameToken && (await store.get(nodeKvKey(nodeId))) !== undefined;
    const isAgain = isWithSameToken && !isNode;

    // The answer to a join may have been lost: what the node has used counts as left for that node.
    const unusable = whyUnusable(isAgain ? { ...token, usesLeft: 1 } : token, atMs);
    if (unusable) throw new Refusal('unauthenticated', unusable.reason, unusable.message);
    assertClock(request.nowMs, atMs);
    assertDocker(request.dockerVersion);
    if (!mayBeNode) {
      throw new Refusal(
        'invalid',
        'node_id',
        'The name of the node must be a DNS label in lower case, and not localhost. Choose another with --node-name.',
      );
    }
    if (isNode) {
      throw new Refusal(
        'conflict',
        'again',
        `Node ${nodeId} has joined with this token already, and was at work since. If that machine has lost its membership, join again with another token.`,
      );
    }
    // Also before it has said for the first time that it is a node.
    if (nodeId === headNodeId) {
      throw new Refusal(
        'conflict',
        'name',
        `The machine with the control plane is the node ${nodeId}. Join under another name with --node-name.`,
      );
    }
    if (known !== undefined && identity === undefined) throw takenBy(nodeId); // unreadable: not ours to replace
    if (identity !== undefined && isLive(identity, atMs) && !isOwner) throw takenBy(nodeId);
    // There is a node of that name, however it came to be.
    if (known === undefined && (await store.get(nodeKvKey(nodeId))) !== undefined) throw takenBy(nodeId);

    const issued = await authority.issueNodeCertificate({
      nodeId,
      signingRequestPem,
      clusterId,
      nowMs: atMs,
    });
    const fresh: NodeIdentity = {
      nodeId,
      serial: issued.serial,
      ...(isOwner && identity !== undefined ? { previousSerial: identity.serial } : {}),
      publicKeyHash: issued.publicKeyHash,
      joinedWith: tokenId,
      issuedAtMs: atMs,
      expiresAtMs: issued.expiresAtMs,
    };
    const event: ClusterEvent = {
      atMs,
      level: 'info',
      type: 'node.joined',
      message: `Node ${nodeId} joined with the token ${tokenId}.`,
      node: nodeId,
    };
    const used = isAgain
      ? token
      : { ...token, usesLeft: token.usesLeft - 1, usedBy: [...new Set([...token.usedBy, nodeId])] };
    const result = await store.transact([
      // Written also when it stays as it is: a token that is revoked meanwhile lets nobody in.
      { kind: 'replace', key: tokenKey, value: used, ifIndex: tokenIndex },
      known === undefined
        ? { kind: 'create', key: identityKvKey(nodeId), value: fresh }
        : { kind: 'replace', key: identityKvKey(nodeId), value: fresh, ifIndex: known.index },
      // A removal that another machine overtakes leaves the rest of it: what is said of the one before ends here.
      ...(identity?.revokedAtMs === undefined
        ? []
        : [nodeKvKey(nodeId), nodeSettingsKvKey(nodeId)].map((key) => ({ kind: 'delete', key }) as const)),
      ...(isAgain ? [] : [{ kind: 'set', key: eventKvKey(atMs, randomSuffix()), value: event } as const]),
    ]);
    return result.kind === 'written' ? { ...issued, identityIndex: result.index } : undefined;
  };

  const tellRefusal = async (error: ContainerOsError, source: string, atMs: number): Promise<void> => {
    const reason = error instanceof Refusal ? error.reason : error.code;
    if (!refusedJoins.isNews(reason, source, atMs)) return;
    const event: ClusterEvent = {
      atMs,
      level: 'warning',
      type: 'node.join_refused',
      message: `A machine at ${source} was not let in as a node: ${error.message}`,
    };
    try {
      await store.transact([{ kind: 'set', key: eventKvKey(atMs, randomSuffix()), value: event }]);
    } catch (lost) {
      deps.onEventLost(lost);
    }
  };

  /** A secret has 192 bits: whoever has none that counts may see that it is none, but waits. */
  const tooMany = (source: string, waitMs: number): ProblemError => {
    const seconds = Math.ceil(waitMs / 1_000);
    return new ProblemError(
      'rate_limited',
      `Too many joins from ${source} were refused. Try again in ${seconds} s.`,
      { headers: { 'retry-after': String(seconds) } },
    );
  };

  return async (read, source) => {
    const startedAtMs = nowMs();
    const waitMs = limiter.waitMs(source, startedAtMs);
    try {
      const request = read();
      for (let count = 0; count < ATTEMPTS; count += 1) {
        const issued = await attempt(request, nowMs());
        if (issued === undefined) continue;
        return {
          nodeId: request.nodeId,
          identityIndex: issued.identityIndex,
          certificatePem: issued.certificatePem,
          authorityPem: authority.certificatePem,
          clusterId,
        };
      }
    } catch (error) {
      if (!(error instanceof ContainerOsError) || error.code === 'unavailable') throw error;
      const isOfToken = !(error instanceof Refusal) || TOKEN_REASONS.has(error.reason);
      const shown = waitMs > 0 && isOfToken ? tooMany(source, waitMs) : error;
      // What is refused to who has to wait does not make the wait longer: others may be behind the same address.
      if (waitMs === 0 && !(error instanceof GivenUp)) limiter.failed(source, startedAtMs);
      await tellRefusal(shown, source, startedAtMs);
      throw shown;
    }
    throw new ContainerOsError('unavailable', 'Too many machines join at this moment. Try again.');
  };
};
