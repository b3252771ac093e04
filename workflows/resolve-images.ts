/**
 * Has nodes look up which bits the images of a release are, before anything of it is started, and tells its
 * microservice, which keeps it with the release: replicas that start days later run the same.
 *
 * Invariants: the microservice knows it before anything is started; an image that nobody knows keeps the operation
 * from starting anything; what may pass is asked again for as long as a pull would be tried.
 */

import {
  ActivityCancellationType,
  ActivityFailure,
  CancellationScope,
  CancelledFailure,
  getExternalWorkflowHandle,
  isCancellation,
  patched,
  proxyActivities,
  setCurrentDetails,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';

import type { ImageResolution, NodeActivities } from '../contracts/activities';
import { nodeQueue } from '../contracts/queues';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
import { SEARCH_ATTRIBUTE, SIGNAL, type ImagesResolvedSignal } from '../contracts/workflows';
import type { OperationError, PlanRequest, Release } from '../domain/model';
import { openImages, withDigests, type ImageSource } from '../domain/release-images';

import { localActivities } from './local-activities';
import type { LostNodes } from './lost-nodes';

export type ResolvedImages =
  | { readonly kind: 'resolved'; readonly release: Release }
  /** Replicas of it run already, of images that nobody has looked up. */
  | { readonly kind: 'as-it-was' }
  /** Somebody asked for it, while it was waited for what may pass. */
  | { readonly kind: 'paused' }
  | { readonly kind: 'failed'; readonly error: OperationError };

type Unknown = Extract<ImageResolution, { kind: 'unknown' }>;

/** What a node says; what keeps it from an answer is an answer too, because another node may be asked. */
const askNode = async (
  { nodeId }: ImageSource,
  images: readonly string[],
  { desired, operation }: PlanRequest,
  lostNodes: LostNodes,
): Promise<readonly ImageResolution[]> => {
  const { project, name, release } = desired;
  const policies = new Map(release.spec.containers.map(({ image, pull }) => [image, pull]));
  const { resolveImages } = proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(nodeId),
    scheduleToStartTimeout: TIMEOUT.nodeScheduleToStartMs,
    startToCloseTimeout: TIMEOUT.resolveStartToCloseMs,
    heartbeatTimeout: TIMEOUT.nodeHeartbeatMs,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: { initialInterval: RETRY.node.initialIntervalMs, maximumAttempts: RETRY.resolvesBeforeElsewhere },
    summary: `${nodeId}: look up ${images.join(', ')}`,
  });
  const without = (reason: string): readonly Unknown[] =>
    images.map((image) => ({
      kind: 'unknown',
      image,
      code: 'unavailable',
      reason: `${image} could not be looked up by node ${nodeId}: ${reason}`,
      mayPass: true,
    }));
  try {
    const outcomes = await lostNodes.unlessLost(nodeId, () =>
      resolveImages({
        nodeId,
        project,
        name,
        operation,
        images: images.map((image) => ({ image, pull: policies.get(image) ?? 'missing' })),
        asksRegistry: release.redeployOf !== undefined,
      }),
    );
    if (outcomes !== undefined) return outcomes;
    if (CancellationScope.current().consideredCancelled)
      throw new CancelledFailure('the operation was cancelled');
    return without('it is lost');
  } catch (error) {
    if (!(error instanceof ActivityFailure) || isCancellation(error)) throw error;
    return without(error.cause?.message ?? error.message);
  }
};

type Found = Required<Pick<Release, 'images' | 'localImages'>>;

/** One round: node after node, until everything is known. */
const askAround = async (
  request: PlanRequest,
  sources: readonly ImageSource[],
  lostNodes: LostNodes,
): Promise<{ readonly found: Found; readonly unknown: readonly Unknown[] }> => {
  const wanted = openImages(request.desired.release.spec);
  const images: Record<string, string> = {};
  const localImages: Record<string, Record<string, string>> = {};
  const unknown = new Map<string, Unknown>();
  for (const source of sources) {
    const { architecture, has } = source;
    const open = wanted.filter((image) => {
      if (images[image] !== undefined) return false;
      const local = localImages[image];
      // Of an image that is in no registry, each architecture has its own.
      return local === undefined || (local[architecture] === undefined && has.includes(image));
    });
    if (open.length === 0) continue;
    // Whoever sees that the node is lost finds the operations that wait for it by this.
    if (patched('asked-for-images-findable')) {
      upsertSearchAttributes({ [SEARCH_ATTRIBUTE.nodes]: [source.nodeId] });
    }
    for (const outcome of await askNode(source, open, request, lostNodes)) {
      const { image } = outcome;
      if (outcome.kind === 'digest') {
        images[image] = outcome.digest;
        delete localImages[image];
      } else if (outcome.kind === 'local') {
        localImages[image] = { ...localImages[image], [architecture]: outcome.imageId };
      } else unknown.set(image, outcome);
    }
  }
  return {
    found: { images, localImages },
    unknown: [...unknown.values()].filter(
      ({ image }) => images[image] === undefined && localImages[image] === undefined,
    ),
  };
};

/** The microservice that the operation belongs to. */
const tellMicroservice = async (told: ImagesResolvedSignal): Promise<void> => {
  const { parent } = workflowInfo();
  if (parent === undefined) throw new Error('an operation without a microservice');
  await getExternalWorkflowHandle(parent.workflowId).signal<[ImagesResolvedSignal]>(
    SIGNAL.imagesResolved,
    told,
  );
};

/**
 * @param request of the plan that is about to start replicas of a release whose images are not known yet
 * @param isPaused whether nobody is to be asked again
 */
export const resolveImages = async (
  request: PlanRequest,
  lostNodes: LostNodes,
  isPaused: () => boolean = () => false,
): Promise<ResolvedImages> => {
  const { release } = request.desired;
  const deadlineMs = Date.now() + TIMEOUT.pullScheduleToCloseMs;
  for (let pauseMs: number = RETRY.node.initialIntervalMs; ;) {
    setCurrentDetails('Looking up images');
    const { isTooLate, sources } = await localActivities.findImageSources(request);
    if (isTooLate) return { kind: 'as-it-was' };
    const { found, unknown } = await askAround(request, sources, lostNodes);
    const isKnown = openImages(release.spec).every(
      (image) => found.images[image] !== undefined || found.localImages[image] !== undefined,
    );
    if (isKnown) {
      await tellMicroservice({
        release: release.number,
        releasedAtMs: release.createdAtMs,
        ...found,
      });
      return { kind: 'resolved', release: withDigests({ ...release, ...found }) };
    }
    const [final] = unknown.filter(({ mayPass }) => !mayPass);
    const last = final ?? unknown[0];
    if (final !== undefined || Date.now() + pauseMs > deadlineMs) {
      const { code = 'unavailable', reason = 'There is no node that could look up the images.' } = last ?? {};
      return { kind: 'failed', error: { code, message: reason, logTail: [] } };
    }
    await sleep(pauseMs);
    if (isPaused() && patched('pause-while-looking-up')) return { kind: 'paused' };
    pauseMs = Math.min(2 * pauseMs, RETRY.node.maximumIntervalMs);
  }
};
