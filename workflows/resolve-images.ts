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
import { shortText } from '../contracts/node-answers';
import { nodeQueue } from '../contracts/queues';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
import { SEARCH_ATTRIBUTE, SIGNAL, type ImagesResolvedSignal } from '../contracts/workflows';
import type { OperationError, PlanRequest, Release } from '../domain/model';
import { openImages, withDigests, type ImageSource } from '../domain/release-images';

import { localActivities } from './local-activities';
import type { LostNodes } from './lost-nodes';
import { NonsensicalAnswer, outcomesOf, type Nonsense } from './node-answers';

export type ResolvedImages =
  | { readonly kind: 'resolved'; readonly release: Release }
  /** Replicas of it run already, of images that nobody has looked up. */
  | { readonly kind: 'as-it-was' }
  /** Somebody asked for it, while it was waited for what may pass. */
  | { readonly kind: 'paused' }
  | { readonly kind: 'failed'; readonly error: OperationError };

type Unknown = Extract<ImageResolution, { kind: 'unknown' }>;

/** What a node says, or what keeps it from an answer: another node may be asked. */
type Asked =
  | { readonly kind: 'answered'; readonly resolutions: readonly ImageResolution[] }
  | { readonly kind: 'unanswered'; readonly why: string }
  | { readonly kind: 'nonsense'; readonly nonsense: Nonsense };

const askNode = async (
  { nodeId }: ImageSource,
  images: readonly string[],
  { desired, operation }: PlanRequest,
  lostNodes: LostNodes,
): Promise<Asked> => {
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
  try {
    const resolutions = await lostNodes.unlessLost(nodeId, async () => {
      const answer = await resolveImages({
        nodeId,
        project,
        name,
        operation,
        images: images.map((image) => ({ image, pull: policies.get(image) ?? 'missing' })),
        asksRegistry: release.redeployOf !== undefined,
      });
      return outcomesOf(nodeId, 'resolveImages', images, answer);
    });
    if (resolutions !== undefined) return { kind: 'answered', resolutions };
    if (CancellationScope.current().consideredCancelled)
      throw new CancelledFailure('the operation was cancelled');
    return { kind: 'unanswered', why: 'it is lost' };
  } catch (error) {
    if (error instanceof NonsensicalAnswer) return { kind: 'nonsense', nonsense: error.nonsense };
    if (!(error instanceof ActivityFailure) || isCancellation(error)) throw error;
    return { kind: 'unanswered', why: shortText(error.cause?.message ?? error.message) };
  }
};

/** What a node that has not answered leaves unknown. */
const unknownTo = ({ nodeId }: ImageSource, images: readonly string[], why: string, mayPass: boolean) =>
  images.map((image): Unknown => ({
    kind: 'unknown',
    image,
    code: 'unavailable',
    reason: `${image} could not be looked up by node ${nodeId}: ${why}`,
    mayPass,
  }));

type Found = Required<Pick<Release, 'images' | 'localImages'>>;

/** One round: node after node, until everything is known. */
const askAround = async (
  request: PlanRequest,
  sources: readonly ImageSource[],
  lostNodes: LostNodes,
  onNonsense: (nonsense: Nonsense) => void,
): Promise<{ readonly found: Found; readonly unknown: readonly Unknown[] }> => {
  const wanted = openImages(request.desired.release.spec);
  const images: Record<string, string> = {};
  const localImages: Record<string, Record<string, string>> = {};
  const unknown = new Map<string, Unknown>();
  /** What only those have spoken of that answer nonsense. */
  const obscure = new Map<string, Unknown>();
  const ask = async (source: ImageSource, open: readonly string[]): Promise<readonly ImageResolution[]> => {
    const asked = await askNode(source, open, request, lostNodes);
    switch (asked.kind) {
      case 'answered':
        return asked.resolutions;
      case 'unanswered':
        return unknownTo(source, open, asked.why, true);
      case 'nonsense':
        onNonsense(asked.nonsense);
        for (const one of unknownTo(source, open, `it ${asked.nonsense.words}`, false)) {
          obscure.set(one.image, one);
        }
        return [];
    }
  };
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
    for (const outcome of await ask(source, open)) {
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
    unknown: [...new Map([...obscure, ...unknown]).values()].filter(
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
 * @param onNonsense told of nodes whose answers nobody can go by
 * @param isPaused whether nobody is to be asked again
 */
export const resolveImages = async (
  request: PlanRequest,
  lostNodes: LostNodes,
  onNonsense: (nonsense: Nonsense) => void,
  isPaused: () => boolean = () => false,
): Promise<ResolvedImages> => {
  const { release } = request.desired;
  const deadlineMs = Date.now() + TIMEOUT.pullScheduleToCloseMs;
  for (let pauseMs: number = RETRY.node.initialIntervalMs; ;) {
    setCurrentDetails('Looking up images');
    const { isTooLate, sources } = await localActivities.findImageSources(request);
    if (isTooLate) return { kind: 'as-it-was' };
    const { found, unknown } = await askAround(request, sources, lostNodes, onNonsense);
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
