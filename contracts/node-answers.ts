/**
 * Reads what the worker of a node answers to a workflow. A machine that joined may answer anything at all, and what it
 * answers decides where replicas run, and stands in documents.
 *
 * Invariants: an answer that is read has an outcome for each thing that was asked, and for nothing else; each is of a
 * kind that there is, with every field that workflows go by and none besides; texts for people are short enough for a
 * document, whatever was sent.
 */

import { isErrorCode, type ErrorCode } from '../domain/errors';
import type { MissingBuild } from '../domain/model';
import { isDigest } from '../domain/release-images';
import { mismatch, type Shape } from '../domain/shape';

import type { ImageResolution, NodeActivities, PullAheadOutcome, PullOutcome } from './activities';
import type { StartOutcome, StopOutcome } from './activities';

const MAX_TEXT = 2_000;
const MAX_LOG_LINES = 50;
const MAX_LOG_LINE = 1_000;
const MAX_NAMES = 100;
const MAX_NAME = 255;

const cut = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length)}…`;

/** @returns what a node has said, as long as people may have to read it */
export const shortText = (text: string): string => cut(text, MAX_TEXT);

const shortNames = (names: readonly string[]): readonly string[] =>
  names.slice(0, MAX_NAMES).map((name) => cut(name, MAX_NAME));

/** A version that knows more errors may have answered. */
const knownCode = (code: string): ErrorCode => (isErrorCode(code) ? code : 'internal');

/** What is wrong with an answer; does not leave this file. */
class Nonsense extends Error {}

/** @returns the value, which has the fields that the shape names; others may be there */
const shaped = <T>(value: unknown, shape: Shape<T>): T => {
  const problem = mismatch<T>(value, shape);
  if (problem !== undefined) throw new Nonsense(problem);
  return value as T;
};

type Texts<F extends string> = Readonly<Record<F, string>>;

/** The named fields, all of them texts, and no others. */
const texts = <F extends string>(value: unknown, ...fields: readonly F[]): Texts<F> => {
  const shape = Object.fromEntries(fields.map((field) => [field, 'text'])) as Shape<Texts<F>>;
  const found = shaped<Texts<F>>(value, shape);
  return Object.fromEntries(fields.map((field) => [field, found[field]])) as Texts<F>;
};

const kindOf = (value: unknown): unknown => shaped<object & { readonly kind?: unknown }>(value, {}).kind;

const noKind = (kind: unknown): never => {
  throw new Nonsense(`/kind is ${kind === undefined ? 'missing' : 'none that there is'}`);
};

const digestIn = (text: string, field: string): string => {
  if (!isDigest(text)) throw new Nonsense(`/${field} is no digest`);
  return text;
};

const readFailure = (value: unknown) => {
  const { image, code, reason } = texts(value, 'image', 'code', 'reason');
  return { image, code: knownCode(code), reason: shortText(reason) };
};

/** Left out, as by most outcomes. */
const readMissingBuild = (value: unknown): { readonly missingBuild?: MissingBuild } => {
  const { missingBuild } = shaped<{ readonly missingBuild?: MissingBuild | null }>(value, {
    missingBuild: ['optional', { image: 'text', available: ['list', 'text'], seenAtMs: 'time' }],
  });
  if (!missingBuild) return {};
  const { image, available, seenAtMs } = missingBuild;
  return { missingBuild: { image: shortText(image), available: shortNames(available), seenAtMs } };
};

const readPull = (value: unknown): PullOutcome => {
  const kind = kindOf(value);
  switch (kind) {
    case 'pulled':
    case 'present':
      return { kind, ...texts(value, 'image', 'imageId') };
    case 'failed':
      return { kind, ...readFailure(value), ...readMissingBuild(value) };
    default:
      return noKind(kind);
  }
};

const readResolution = (value: unknown): ImageResolution => {
  const kind = kindOf(value);
  switch (kind) {
    case 'digest': {
      const { image, digest } = texts(value, 'image', 'digest');
      return { kind, image, digest: digestIn(digest, 'digest') };
    }
    case 'local': {
      const { image, imageId } = texts(value, 'image', 'imageId');
      return { kind, image, imageId: digestIn(imageId, 'imageId') };
    }
    case 'unknown': {
      const { mayPass } = shaped<{ readonly mayPass: boolean }>(value, { mayPass: 'boolean' });
      return { kind, ...readFailure(value), mayPass };
    }
    default:
      return noKind(kind);
  }
};

const readPullAhead = (value: unknown): PullAheadOutcome => {
  const kind = kindOf(value);
  switch (kind) {
    case 'pulled':
    case 'present':
    case 'gave_way':
      return { kind, image: texts(value, 'image').image };
    case 'failed': {
      const { image, reason } = texts(value, 'image', 'reason');
      return { kind, image, reason: shortText(reason) };
    }
    default:
      return noKind(kind);
  }
};

const readStart = (value: unknown): StartOutcome => {
  const kind = kindOf(value);
  switch (kind) {
    case 'ready':
      // Where it answers stands in the document of the replica.
      return { kind, replicaId: texts(value, 'replicaId').replicaId, ports: [] };
    case 'refused': {
      const { replicaId, reason } = texts(value, 'replicaId', 'reason');
      return { kind, replicaId, reason: shortText(reason), ...readMissingBuild(value) };
    }
    case 'failed': {
      const { replicaId, code, reason } = texts(value, 'replicaId', 'code', 'reason');
      const { logTail } = shaped<{ readonly logTail: readonly string[] }>(value, {
        logTail: ['list', 'text'],
      });
      const lines = logTail.slice(-MAX_LOG_LINES).map((line) => cut(line, MAX_LOG_LINE));
      return { kind, replicaId, code: knownCode(code), reason: shortText(reason), logTail: lines };
    }
    default:
      return noKind(kind);
  }
};

const readStop = (value: unknown): StopOutcome => {
  const { replicaId, existed, behind } = shaped<StopOutcome>(value, {
    replicaId: 'text',
    existed: 'boolean',
    behind: ['optional', ['list', 'text']],
  });
  return { replicaId, existed, ...(behind ? { behind: shortNames(behind) } : {}) };
};

type Outcome<A extends keyof NodeActivities> = Awaited<ReturnType<NodeActivities[A]>>[number];

const READERS: { readonly [A in keyof NodeActivities]: (value: unknown) => Outcome<A> } = {
  pullImages: readPull,
  resolveImages: readResolution,
  pullAhead: readPullAhead,
  startReplicas: readStart,
  stopReplicas: readStop,
};

const subjectOf = (outcome: Outcome<keyof NodeActivities>): string =>
  'replicaId' in outcome ? outcome.replicaId : outcome.image;

export type NodeAnswer<A extends keyof NodeActivities> =
  { readonly outcomes: readonly Outcome<A>[] } | { readonly nonsense: string };

/**
 * @param activity what the node was asked for
 * @param asked images or replica ids, one for each outcome that there has to be
 * @param value what came as its result
 * @returns the outcomes, or what is wrong with the answer: "/0/reason is not text"
 */
export const readNodeAnswer = <A extends keyof NodeActivities>(
  activity: A,
  asked: readonly string[],
  value: unknown,
): NodeAnswer<A> => {
  if (!Array.isArray(value)) return { nonsense: value === undefined ? 'it is empty' : 'it is not a list' };
  const subjects = new Set(asked);
  const open = new Set(asked);
  const outcomes: Outcome<A>[] = [];
  for (const [index, item] of value.entries()) {
    try {
      const outcome = READERS[activity](item);
      const subject = subjectOf(outcome);
      if (!subjects.has(subject)) return { nonsense: `/${index} is about what it was not asked for` };
      open.delete(subject);
      outcomes.push(outcome);
    } catch (error) {
      if (!(error instanceof Nonsense)) throw error;
      const { message } = error;
      return {
        nonsense: message.startsWith('/') ? `/${index}${message}` : message.replace(/^it/, `/${index}`),
      };
    }
  }
  const [missing] = open;
  // What is pulled ahead may be given up half-way.
  return missing === undefined || activity === 'pullAhead'
    ? { outcomes }
    : { nonsense: `it says nothing about ${missing}` };
};
