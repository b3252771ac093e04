/**
 * What a change would make of a microservice, without changing anything: the answer to a query.
 *
 * Invariants: goes through the same checks as the change itself, on the same state; a refusal is an answer.
 */

import { defineQuery, setHandler } from '@temporalio/workflow';

import { QUERY, type Preview, type PreviewRequest } from '../contracts/workflows';
import { ContainerOsError } from '../domain/errors';
import type { OperationKind, Release } from '../domain/model';
import { sameRelease } from '../domain/spec/diff';

import type { Entity } from './entity';
import {
  addRelease,
  checkApply,
  checkChange,
  checkRestart,
  desiredOf,
  exists,
  findRelease,
  rollbackTarget,
  takenOverInStages,
  withoutReleases,
  type EntityState,
} from './entity-state';
import { settleSwitched } from './switched-release';

const previewQuery = defineQuery<Preview, [PreviewRequest]>(QUERY.preview);

const previewOf = (state: EntityState, request: PreviewRequest, nowMs: number): Preview => {
  const before = exists(state) ? findRelease(state, state.desiredRelease) : undefined;
  const answer = (next: EntityState, operation: OperationKind): Preview => {
    const desired = desiredOf(next);
    if (!desired) throw new Error(`release ${next.desiredRelease} is gone`);
    const takesOverFrom = takenOverInStages(next, operation);
    return {
      kind: 'possible',
      operation,
      desired,
      ...(takesOverFrom === undefined ? {} : { takesOverFrom }),
      created: before === undefined,
      ...(before ? { before } : {}),
    };
  };
  const withRelease = (spec: Release['spec'], origin: Parameters<typeof addRelease>[3] = {}) =>
    addRelease(origin.rollbackOf === undefined ? settleSwitched(state) : state, spec, nowMs, origin).state;

  switch (request.kind) {
    case 'apply': {
      const { change } = request;
      checkApply(state, change);
      const base = before === undefined ? withoutReleases(state, nowMs) : state;
      const scale = change.scale ?? (before === undefined ? 1 : state.scale);
      const named: EntityState = { ...base, name: change.name, scale };
      if (before !== undefined && sameRelease(before.spec, change.release)) {
        return answer(named, scale === state.scale ? 'deploy' : 'scale');
      }
      return answer(addRelease(settleSwitched(named), change.release, nowMs).state, 'deploy');
    }
    case 'scale':
      checkChange(state, request.change);
      return answer({ ...state, scale: request.change.scale }, 'scale');
    case 'rollback': {
      checkChange(state, request.change);
      const { number, spec, images, localImages } = rollbackTarget(state, request.change.toRelease);
      const origin = {
        rollbackOf: number,
        ...(images === undefined ? {} : { images }),
        ...(localImages === undefined ? {} : { localImages }),
      };
      return answer(withRelease(spec, origin), 'rollback');
    }
    case 'redeploy': {
      checkChange(state, request.change);
      if (!before) throw new Error(`release ${state.desiredRelease} is gone`);
      return answer(withRelease(before.spec, { redeployOf: before.number }), 'deploy');
    }
    case 'restart':
      checkRestart(state, request.change);
      return answer(state, 'restart');
    case 'remove':
      checkChange(state, request.change);
      return answer(state, 'remove');
  }
};

export const answerPreviews = (entity: Entity): void => {
  setHandler(previewQuery, (request) => {
    try {
      return previewOf(entity.state, request, Date.now());
    } catch (error) {
      if (!(error instanceof ContainerOsError)) throw error;
      return { kind: 'refused', code: error.code, message: error.message, problems: error.problems };
    }
  });
};
