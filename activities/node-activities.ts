/**
 * What a node does for workflows: pulls images, starts and stops replicas.
 *
 * Invariants: thin; each tells Temporal every second that it lives and how far it is, and gives up at once when it
 * is cancelled, leaving what a retry or a stop will find; an error that people or time can mend becomes a failure
 * whose `type` is its code, anything else stays a raw error.
 */

import { Context } from '@temporalio/activity';

import type {
  ImageResolution,
  NodeActivities,
  PullAheadOutcome,
  PullImages,
  PullOutcome,
  StartOutcome,
  StartReplica,
  StartReplicas,
  StopOutcome,
  StopReplicas,
} from '../contracts/activities';
import { allOrFirstError } from '../domain/all-or-first-error';
import { ContainerOsError } from '../domain/errors';
import { toFailure } from './activity-error';

const HEARTBEAT_EVERY_MS = 1_000;

export type Progress = (what: string, words: string) => void;

export interface NodeActivityDeps {
  readonly images: {
    pull(
      image: string,
      policy: 'always' | 'missing' | 'never',
      signal: AbortSignal,
      onProgress: (words: string) => void,
    ): Promise<PullOutcome>;
    resolve(
      image: string,
      policy: 'always' | 'missing' | 'never',
      asksRegistry: boolean,
      signal: AbortSignal,
    ): Promise<ImageResolution>;
    pullAhead(
      image: string,
      signal: AbortSignal,
      onProgress: (words: string) => void,
    ): Promise<PullAheadOutcome>;
  };
  /** A pull has failed in a way that passes, and is tried again; or, after that, has succeeded. */
  readonly onPull: (asked: PullImages, error: ContainerOsError | undefined) => void;
  /** An image is there that nobody has waited for. */
  readonly onPulledAhead: (image: string) => void;
  readonly replicas: {
    start(
      replicas: readonly StartReplica[],
      signal: AbortSignal,
      onProgress: Progress,
    ): Promise<readonly StartOutcome[]>;
    stop(
      replicas: StopReplicas['replicas'],
      signal: AbortSignal,
      onProgress: Progress,
    ): Promise<readonly StopOutcome[]>;
  };
}

export const createNodeActivities = ({
  images,
  replicas,
  onPull,
  onPulledAhead,
}: NodeActivityDeps): NodeActivities => ({
  pullImages: (input) =>
    withHeartbeats(async (signal, onProgress) => {
      try {
        const outcomes = await allOrFirstError(
          input.images.map(({ image, pull }) =>
            images.pull(image, pull, signal, (words) => onProgress(image, words)),
          ),
        );
        if (Context.current().info.attempt > 1) onPull(input, undefined);
        return outcomes;
      } catch (error) {
        if (error instanceof ContainerOsError) onPull(input, error);
        throw error;
      }
    }),
  resolveImages: (input) =>
    withHeartbeats(async (signal) => {
      const outcomes = await allOrFirstError(
        input.images.map(({ image, pull }) => images.resolve(image, pull, input.asksRegistry, signal)),
      );
      for (const outcome of outcomes) {
        if (outcome.kind !== 'unknown' || !outcome.mayPass) continue;
        onPull(input, new ContainerOsError(outcome.code, outcome.reason));
      }
      return outcomes;
    }),
  pullAhead: (input) =>
    withHeartbeats(async (signal, onProgress) => {
      const outcomes: PullAheadOutcome[] = [];
      for (const image of input.images) {
        const outcome = await images.pullAhead(image, signal, (words) => onProgress(image, words));
        outcomes.push(outcome);
        if (outcome.kind === 'pulled') onPulledAhead(image);
        // The others are asked for again, when there is time.
        if (outcome.kind === 'gave_way') break;
      }
      return outcomes;
    }),
  startReplicas: (input) =>
    withHeartbeats((signal, onProgress) => replicas.start(eachReplica(input), signal, onProgress)),
  stopReplicas: (input) =>
    withHeartbeats((signal, onProgress) => replicas.stop(input.replicas, signal, onProgress)),
});

/** What was asked for before releases stood in a payload once: an activity under way meets new code on an upgrade. */
interface StartReplicasBefore {
  readonly releases?: undefined;
  readonly replicas: readonly StartReplica[];
}

/** The replicas that are asked for, each with its release. */
export const eachReplica = (input: StartReplicas | StartReplicasBefore): readonly StartReplica[] => {
  if (input.releases === undefined) return input.replicas;
  const { project, name, operation, releases, replicas, placedAtMs } = input;
  const byNumber = new Map(releases.map((release) => [release.number, release]));
  return replicas.map(({ replicaId, release: number }) => {
    const release = byNumber.get(number);
    if (!release) throw new Error(`replica ${replicaId} is of release ${number}, which did not come with it`);
    return {
      project,
      name,
      operation,
      replicaId,
      release,
      ...(placedAtMs === undefined ? {} : { placedAtMs }),
    };
  });
};

const withHeartbeats = async <T>(
  work: (signal: AbortSignal, onProgress: Progress) => Promise<T>,
): Promise<T> => {
  const context = Context.current();
  const signal = context.cancellationSignal;
  const progress = new Map<string, string>();
  const beat = (): void => context.heartbeat(Object.fromEntries(progress));
  const timer = setInterval(beat, HEARTBEAT_EVERY_MS);
  try {
    return await work(signal, (what, words) => progress.set(what, words));
  } catch (error) {
    if (signal.aborted) await context.cancelled; // throws what Temporal expects of a cancelled activity
    throw toFailure(error);
  } finally {
    clearInterval(timer);
  }
};
