/**
 * Answers `POST /v1/join` at the cluster port: the one request that needs no certificate.
 *
 * Invariants: nothing of the request is believed before it has the shape of one; what a machine is given counts at the
 * cluster port before it is given; who asks again with the same key and token, because the answer was lost, is
 * answered again; a machine that gives up by itself is refused like others, so that the cluster hears of it.
 */

import { z } from 'zod';

import {
  GIVEN_UP_REASONS,
  JOIN_PATH,
  type ConsulMembership,
  type JoinAnswer,
  type JoinGivenUp,
  type JoinRequest,
} from '../../contracts/join';
import { ContainerOsError } from '../../domain/errors';
import { answerJson, readPortBody } from '../cluster-port/answers';
import type { PortRequest, PortResponse } from '../cluster-port/cluster-port';
import { parseJsonText } from '../json-text';

import type { JoinNode } from './join-node';
import { GivenUp } from './refused-joins';

const MAX_BODY_BYTES = 16_384;
/** Of what is wrong with a request, which whoever sends it decides on. */
const MAX_PROBLEMS = 4;
const MAX_PROBLEM_CHARACTERS = 500;
const text = z.string().max(8_192);

const joinRequest = z.strictObject({
  tokenId: text,
  secret: text,
  nodeId: text,
  signingRequestPem: text,
  nowMs: z.number(),
  dockerVersion: text,
  architecture: text,
  containerosVersion: text,
});

/** The last that a date can hold. */
const MAX_TIME_MS = 8.64e15;
const joinGivenUp = z.strictObject({
  givenUp: z.enum(GIVEN_UP_REASONS),
  nowMs: z.number().min(-MAX_TIME_MS).max(MAX_TIME_MS),
});

/** What the cluster is told of a machine that does not ask, as it would be refused. */
const refusalOf = ({ givenUp, nowMs }: JoinGivenUp): GivenUp => {
  switch (givenUp) {
    case 'token':
      return new GivenUp(
        'unauthenticated',
        'token_form',
        'What it has for a join token is none: it is cut off, or something else. Copy the whole token again, or make another one with POST /v1/join-tokens.',
      );
    case 'cluster':
      return new GivenUp(
        'unauthenticated',
        'other_cluster',
        'Its join token is of another cluster. See that it has the address of that one, or make a token here with POST /v1/join-tokens.',
      );
    case 'clock':
      return new GivenUp(
        'invalid',
        'clock_far_off',
        `Its clock says ${new Date(nowMs).toISOString()}, at which the certificate of this cluster does not count. Set the clock there (for example by NTP), and join again.`,
      );
  }
};

export interface JoinRouteDeps {
  readonly join: JoinNode;
  /** What has been given out counts once this has resolved. */
  readonly refreshIdentities: () => Promise<void>;
  /** Gives a node its access to Consul, as long as its identity has this index; the last one given holds. */
  readonly giveConsulAccess: (nodeId: string, identityIndex: number) => Promise<ConsulMembership>;
  readonly temporalNamespace: string;
  readonly clusterKey: () => string;
}

const parseRequest = (body: Buffer): JoinRequest => {
  const said = parseJsonText(body.toString('utf8'));
  const givenUp = joinGivenUp.safeParse(said);
  if (givenUp.success) throw refusalOf(givenUp.data);
  const parsed = joinRequest.safeParse(said);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `/${path.join('/')} ${message}`);
  throw new ContainerOsError(
    'invalid',
    `This is no request to join (${problems.slice(0, MAX_PROBLEMS).join('; ').slice(0, MAX_PROBLEM_CHARACTERS)}). Use \`containeros join\` of the version that the cluster has.`,
  );
};

/** @returns what answers the open path of the cluster port; rejects with ContainerOsError when it is refused */
export const createJoinRoute =
  (deps: JoinRouteDeps) =>
  async (request: PortRequest, response: PortResponse): Promise<void> => {
    if (request.method !== 'POST') {
      throw new ContainerOsError('method_not_allowed', `${JOIN_PATH} takes POST only.`);
    }
    const source = request.socket.remoteAddress ?? 'an unknown address';
    const body = await readPortBody(request, MAX_BODY_BYTES);
    const { nodeId, identityIndex, ...admission } = await deps.join(() => parseRequest(body), source);
    const consul = await deps.giveConsulAccess(nodeId, identityIndex);
    await deps.refreshIdentities();
    const answer: JoinAnswer = {
      ...admission,
      temporalNamespace: deps.temporalNamespace,
      consul,
      clusterKey: deps.clusterKey(),
    };
    answerJson(response, 200, answer);
  };
