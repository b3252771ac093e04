/**
 * Entities that do at once, in a store in memory, what is asked of them: enough of a cluster for requests that build
 * upon each other.
 */

import type { Changes } from '../../api/changes';
import {
  KV_PREFIX,
  eventKvKey,
  microserviceKvKey,
  operationKvKey,
  operationsKvPrefix,
  releaseKvKey,
  releasesKvPrefix,
} from '../../contracts/kv';
import { operationId, type ChangeAccepted, type ChangeRequest } from '../../contracts/workflows';
import { ContainerOsError } from '../../domain/errors';
import type { Microservice, MicroserviceKey, Operation, OperationKind, Release } from '../../domain/model';
import { NOW_MS } from '../support/builders';
import type { FakeKv } from '../unit/api/fake-kv';

interface Entity {
  readonly microservice: Microservice;
  readonly releases: readonly Release[];
}

export const createFakeEntities = (kv: FakeKv): Changes => {
  const entities = new Map<string, Entity>();
  let counter = 0;

  const find = (key: MicroserviceKey): Entity => {
    const entity = entities.get(microserviceKvKey(key));
    if (!entity) throw new ContainerOsError('not_found', `There is no microservice ${key.name}.`);
    return entity;
  };

  const check = (entity: Entity | undefined, { ifGeneration }: ChangeRequest) => {
    if (ifGeneration !== undefined && ifGeneration !== (entity?.microservice.generation ?? 0)) {
      throw new ContainerOsError('precondition_failed', 'It has changed since.');
    }
  };

  const operate = (kind: OperationKind, key: MicroserviceKey, release: number, scale: number): Operation => {
    counter += 1;
    const id = operationId(kind, key, String(counter).padStart(8, '0'));
    const atMs = NOW_MS + counter;
    const times = { createdAtMs: atMs, startedAtMs: atMs, endedAtMs: atMs };
    return {
      ...key,
      id,
      kind,
      state: 'succeeded',
      release,
      scale,
      message: 'done',
      plan: ['nothing to do'],
      ...times,
    };
  };

  const enter = (entity: Entity, operation: Operation, created = false): ChangeAccepted => {
    const { generation } = entity.microservice;
    const microservice = { ...entity.microservice, operation: operation.id, generation: generation + 1 };
    entities.set(microserviceKvKey(microservice), { ...entity, microservice });
    const { release } = microservice;
    const event = {
      atMs: operation.createdAtMs,
      level: 'info',
      type: 'operation.succeeded',
      message: operation.message,
      operation: operation.id,
      microservice: microservice.name,
    };
    const index = kv.put({
      [microserviceKvKey(microservice)]: microservice,
      [releaseKvKey(microservice, release.number)]: release,
      [operationKvKey(microservice, operation.id)]: operation,
      [eventKvKey(operation.createdAtMs, String(counter).padStart(8, '0'))]: event,
    });
    return { operation, generation: generation + 1, created, index };
  };

  const preview: Changes['preview'] = async (key, { kind, change }) => {
    const entity = entities.get(microserviceKvKey(key));
    check(entity, change);
    if (kind === 'apply') {
      const number = (entity?.releases.length ?? 0) + 1;
      const release: Release = { number, spec: change.release, createdAtMs: NOW_MS };
      const scale = change.scale ?? entity?.microservice.scale ?? 1;
      const desired = { ...key, name: change.name, release, scale };
      return { kind: 'possible', operation: 'deploy', desired, created: entity === undefined };
    }
    const { microservice } = find(key);
    const operation = kind === 'redeploy' ? 'deploy' : kind;
    return {
      kind: 'possible',
      operation,
      desired: microservice,
      before: microservice.release,
      created: false,
    };
  };

  return {
    preview,
    apply: async (key, request) => {
      const before = entities.get(microserviceKvKey(key));
      check(before, request);
      const number = (before?.releases.length ?? 0) + 1;
      const atMs = NOW_MS + counter;
      const release: Release = { number, spec: request.release, createdAtMs: atMs };
      const microservice: Microservice = {
        project: key.project,
        name: request.name,
        generation: before?.microservice.generation ?? 0,
        scale: request.scale ?? before?.microservice.scale ?? 1,
        release,
        settledRelease: number,
        releaseNumbers: [...(before?.microservice.releaseNumbers ?? []), number],
        state: 'steady',
        message: '',
        operation: '',
        createdAtMs: atMs,
        updatedAtMs: atMs,
      };
      const operation = operate('deploy', microservice, number, microservice.scale);
      return enter({ microservice, releases: [...(before?.releases ?? []), release] }, operation, !before);
    },
    scale: async (key, request) => {
      const entity = find(key);
      check(entity, request);
      const microservice = { ...entity.microservice, scale: request.scale };
      return enter(
        { ...entity, microservice },
        operate('scale', microservice, microservice.release.number, request.scale),
      );
    },
    rollback: async (key, request) => {
      const entity = find(key);
      check(entity, request);
      const wanted = request.toRelease ?? entity.microservice.release.number - 1;
      const target = entity.releases.find(({ number }) => number === wanted);
      if (!target) throw new ContainerOsError('not_found', 'There is no such release.');
      const release = { ...target, number: entity.releases.length + 1, rollbackOf: target.number };
      const microservice = { ...entity.microservice, release };
      const next = { microservice, releases: [...entity.releases, release] };
      return enter(next, operate('rollback', microservice, release.number, microservice.scale));
    },
    restart: async (key, request) => {
      const entity = find(key);
      check(entity, request);
      const { microservice } = entity;
      return enter(entity, operate('restart', microservice, microservice.release.number, microservice.scale));
    },
    redeploy: async (key, request) => {
      const entity = find(key);
      check(entity, request);
      const { release: current, scale } = entity.microservice;
      const release = { ...current, number: entity.releases.length + 1, redeployOf: current.number };
      const microservice = { ...entity.microservice, release };
      const next = { microservice, releases: [...entity.releases, release] };
      return enter(next, operate('deploy', microservice, release.number, scale));
    },
    // Its releases take no time, so none is ever under way.
    steer: async (key, request) => {
      check(find(key), request);
      throw new ContainerOsError('conflict', 'No release is under way.');
    },
    remove: async (key, request) => {
      const entity = find(key);
      check(entity, request);
      const { microservice } = entity;
      const accepted = enter(entity, operate('remove', microservice, microservice.release.number, 0));
      entities.delete(microserviceKvKey(key));
      const { documents } = await kv.list('');
      const kept = operationsKvPrefix(key);
      const prefixes = [microserviceKvKey(key), releasesKvPrefix(key)];
      const gone = documents
        .map((document) => document.key)
        .filter((one) => !one.startsWith(kept) && !one.startsWith(KV_PREFIX.events))
        .filter((one) => one === prefixes[0] || one.startsWith(prefixes[1] ?? ''));
      return { ...accepted, index: kv.delete(...gone) };
    },
  };
};
