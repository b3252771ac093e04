/**
 * Takes in what users ask of a microservice: the handlers of its updates and signals.
 *
 * Invariants: a change is published before its update is answered; a refusal changes nothing; handlers only record,
 * the main loop acts.
 */

import {
  ApplicationFailure,
  CancellationScope,
  defineSignal,
  defineUpdate,
  patched,
  setHandler,
} from '@temporalio/workflow';

import {
  SIGNAL,
  UPDATE,
  type ApplyRequest,
  type ChangeAccepted,
  type ChangeRequest,
  type HostnamesTakenSignal,
  type ImagesResolvedSignal,
  type ObservedChangedSignal,
  type RedeployRequest,
  type RemoveRequest,
  type RestartRequest,
  type RollbackRequest,
  type ScaleRequest,
} from '../contracts/workflows';
import { claimInWords, claimsTakenInWords } from '../domain/ingress/claim-words';
import type { Operation, OperationKind, Release } from '../domain/model';
import { sameRelease } from '../domain/spec/diff';

import { atTheEdge, isHalted, type Entity } from './entity';
import { steerReleases } from './entity-steering';
import {
  addRelease,
  checkApply,
  checkChange,
  checkRestart,
  desiredOf,
  enqueue,
  exists,
  fallbackOf,
  findRelease,
  findRemembered,
  hostnamesOf,
  rollbackTarget,
  takenOverInStages,
  withImages,
  withoutHostnames,
  withoutReleases,
} from './entity-state';
import { settleSwitched } from './switched-release';

const applyUpdate = defineUpdate<ChangeAccepted, [ApplyRequest]>(UPDATE.apply);
const scaleUpdate = defineUpdate<ChangeAccepted, [ScaleRequest]>(UPDATE.scale);
const rollbackUpdate = defineUpdate<ChangeAccepted, [RollbackRequest]>(UPDATE.rollback);
const restartUpdate = defineUpdate<ChangeAccepted, [RestartRequest]>(UPDATE.restart);
const redeployUpdate = defineUpdate<ChangeAccepted, [RedeployRequest]>(UPDATE.redeploy);
const removeUpdate = defineUpdate<ChangeAccepted, [RemoveRequest]>(UPDATE.remove);
const imagesResolvedSignal = defineSignal<[ImagesResolvedSignal]>(SIGNAL.imagesResolved);
const hostnamesTakenSignal = defineSignal<[HostnamesTakenSignal]>(SIGNAL.hostnamesTaken);
const observedChangedSignal = defineSignal<[ObservedChangedSignal]>(SIGNAL.observedChanged);

export const acceptChanges = (entity: Entity): void => {
  const { key, local, publisher, inTurn } = entity;

  const enterRelease = (
    release: Release['spec'],
    { by }: ChangeRequest,
    origin: Pick<Release, 'rollbackOf' | 'redeployOf' | 'hostnamesTaken' | 'images' | 'localImages'> = {},
  ) => {
    // A rollback leads back to what was before it.
    if (origin.rollbackOf === undefined) entity.state = settleSwitched(entity.state);
    const added = addRelease(entity.state, release, Date.now(), {
      ...(by === undefined ? {} : { by }),
      ...origin,
      // Rollbacks in histories from before it went by the number alone.
      ...(patched('healthy-before') ? { healthyBefore: entity.state.settledRelease ?? 0 } : {}),
    });
    entity.state = added.state;
    publisher.forget({ releases: added.forgotten });
  };

  /** What is applied during a removal is a new microservice: the releases that were removed are nothing to go back to. */
  const beginAnew = () => {
    publisher.forget({ releases: entity.state.releases.map(({ number }) => number) });
    entity.state = withoutReleases(entity.state, Date.now());
  };

  /** What is not about the release does not have it go on when somebody has paused it; a scale of 0 ends it. */
  const staysPaused = (): boolean =>
    entity.state.scale > 0 &&
    fallbackOf(entity.state) !== undefined &&
    (isHalted(entity) || entity.state.queued?.state === 'paused');

  const accept = async (
    kind: OperationKind,
    request: ChangeRequest,
    created = false,
    keepsPause = kind === 'scale',
  ): Promise<ChangeAccepted> => {
    const asked = entity.newOperation(kind, request.by);
    const operation: Operation = keepsPause && staysPaused() ? { ...asked, state: 'paused' } : asked;
    if (entity.state.queued) entity.supersede(entity.state.queued, operation.id);
    const next = enqueue(entity.state, operation, request);
    entity.state = next.state;
    publisher.forget({ operations: next.forgotten });
    publisher.record(operation);
    entity.running?.cancel();
    const { generation } = entity.state;
    const index = await publisher.published(generation);
    return { operation, generation, created, index };
  };

  const repeated = async (request: ChangeRequest): Promise<ChangeAccepted | undefined> => {
    const found = atTheEdge(() => findRemembered(entity.state, request));
    if (!found) return undefined;
    const index = await publisher.published(entity.state.generation);
    return { operation: found.operation, generation: entity.state.generation, created: false, index };
  };

  const claim = async (hostnames: readonly string[], moves = false): Promise<void> => {
    const claimed = await local.claimHostnames({ ...key, hostnames, ...(moves ? { moves } : {}) });
    if (claimed.kind === 'claimed') {
      // Should the change be refused after all, they are given back at the next look.
      const { moving = [] } = claimed;
      entity.state = {
        ...entity.state,
        holdsSpareHostnames: true,
        ...(moving.length === 0 ? {} : { movingHostnames: moving }),
      };
      return;
    }
    const { hostname, owner, others = [] } = claimed;
    throw ApplicationFailure.nonRetryable(claimsTakenInWords([{ hostname, owner }, ...others]), 'conflict');
  };

  /** Handlers run outside the scope of the main function, and are not to be cancelled either. */
  const change = (request: ChangeRequest, body: () => Promise<ChangeAccepted>): Promise<ChangeAccepted> =>
    CancellationScope.nonCancellable(
      async () =>
        (await repeated(request)) ?? inTurn(async () => (await repeated(request)) ?? (await body())),
    );

  const checked = (request: ChangeRequest) => atTheEdge(() => checkChange(entity.state, request));
  const checkedRestart = (request: RestartRequest) => atTheEdge(() => checkRestart(entity.state, request));
  const checkedApply = (request: ApplyRequest) => atTheEdge(() => checkApply(entity.state, request));
  const checkedRollback = (request: RollbackRequest) =>
    atTheEdge(() => {
      checkChange(entity.state, request);
      return findRemembered(entity.state, request)
        ? undefined
        : rollbackTarget(entity.state, request.toRelease);
    });

  setHandler(
    applyUpdate,
    (request) =>
      change(request, async () => {
        checkedApply(request);
        const hostnames = hostnamesOf(request.release);
        const before = exists(entity.state) ? desiredOf(entity.state) : undefined;
        const held = before ? hostnamesOf(before.release.spec) : [];
        if (hostnames.some((hostname) => !held.includes(hostname))) {
          await claim(hostnames, request.movesHostnames);
          checkedApply(request);
        }
        const created = !exists(entity.state);
        const scale = request.scale ?? (created ? 1 : entity.state.scale);
        const isScaled = scale !== entity.state.scale;
        if (created) beginAnew();
        entity.state = { ...entity.state, name: request.name, scale };
        const current = findRelease(entity.state, entity.state.desiredRelease);
        const isSame = current !== undefined && sameRelease(current.spec, request.release);
        if (!isSame) enterRelease(request.release, request);
        return accept(isSame && isScaled ? 'scale' : 'deploy', request, created);
      }),
    { validator: checkedApply },
  );

  setHandler(
    scaleUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        entity.state = { ...entity.state, scale: request.scale };
        return accept('scale', request);
      }),
    { validator: checked },
  );

  setHandler(
    rollbackUpdate,
    (request) =>
      change(request, async () => {
        const target = checkedRollback(request);
        if (!target) throw new Error('a repeated rollback reached its body');
        await claim(hostnamesOf(target.spec));
        // The same bits as then, wherever their tags have gone since.
        const { number, spec, images, localImages } = target;
        enterRelease(spec, request, {
          rollbackOf: number,
          ...(images === undefined ? {} : { images }),
          ...(localImages === undefined ? {} : { localImages }),
        });
        return accept('rollback', request);
      }),
    { validator: (request: RollbackRequest) => void checkedRollback(request) },
  );

  setHandler(
    restartUpdate,
    (request) =>
      change(request, async () => {
        // Histories from before it have restarts in stages.
        if (patched('no-restart-in-stages')) checkedRestart(request);
        else checked(request);
        return accept('restart', request);
      }),
    { validator: checkedRestart },
  );

  steerReleases(entity, change);

  setHandler(
    redeployUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        const current = findRelease(entity.state, entity.state.desiredRelease);
        if (!current) throw new Error(`release ${entity.state.desiredRelease} is gone`);
        enterRelease(current.spec, request, { redeployOf: current.number });
        return accept('deploy', request);
      }),
    { validator: checked },
  );

  setHandler(
    removeUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        entity.state = { ...entity.state, removing: true };
        return accept('remove', request);
      }),
    { validator: checked },
  );

  /** What was moved from it by somebody else's change is no part of what is desired any more. */
  setHandler(hostnamesTakenSignal, (taken: HostnamesTakenSignal) =>
    CancellationScope.nonCancellable(() =>
      inTurn(async () => {
        const current = findRelease(entity.state, entity.state.desiredRelease);
        if (!current || !exists(entity.state)) return;
        const { spec, images, localImages } = current;
        const left = withoutHostnames(spec, taken.hostnames);
        if (sameRelease(spec, left)) return;
        const request: ChangeRequest = { by: { kind: 'system' } };
        // Nobody looks after a release that nobody has asked for, and there is nothing new to try. One that is under
        // way in stages is as new as it was.
        const isProven = takenOverInStages(settleSwitched(entity.state), 'deploy') === undefined;
        enterRelease(left, request, {
          ...(isProven ? { hostnamesTaken: taken.hostnames } : {}),
          ...(images === undefined ? {} : { images }),
          ...(localImages === undefined ? {} : { localImages }),
        });
        const { operation } = await accept('deploy', request, false, true);
        entity.announce(
          'info',
          'hostname.moved',
          `${taken.hostnames.map(claimInWords).join(', ')} moved from ${entity.state.name} to ${taken.by}.`,
          operation.id,
        );
      }),
    ),
  );

  setHandler(imagesResolvedSignal, (told: ImagesResolvedSignal) => {
    entity.state = withImages(entity.state, told);
    publisher.touch();
  });

  // Operators may send it by hand, without anything in it.
  setHandler(observedChangedSignal, (signal?: ObservedChangedSignal) => {
    entity.observedChanged = true;
    entity.hasRoom ||= signal?.hasRoom ?? false;
    // A release that goes on in stages, or is paused, heals what it has by itself.
    if (entity.current?.progress !== undefined) {
      entity.signalCurrent?.(SIGNAL.observedChanged, signal).catch(() => undefined); // it has just ended
    }
    const lostNodes = signal?.lostNodes ?? [];
    if (lostNodes.length === 0 || !patched('lost-nodes')) return;
    // The loss is none of the failures that are tried again less and less often.
    entity.hasRoom = true;
    entity.tellLost?.(lostNodes);
  });
};
