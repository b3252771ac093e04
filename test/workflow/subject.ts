/**
 * One microservice under test: changes as the API makes them, and what the world shows of it.
 *
 * Invariant: waits for conditions, never for time to pass.
 */

import type { KvOperation } from '../../contracts/key-value-store';
import { KV_PREFIX } from '../../contracts/kv';
import type { ChangeAccepted, ChangeRequest, ReleaseCommand } from '../../contracts/workflows';
import { SIGNAL, microserviceWorkflowId } from '../../contracts/workflows';
import {
  FINAL_OPERATION_STATES,
  type Microservice,
  type Operation,
  type OperationKind,
  type OperationState,
  type ObservedReplica,
} from '../../domain/model';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { buildReleaseSpec } from '../support/builders';
import { eventuallyValue } from '../support/wait';

import type { Project } from './temporal';

export const GOOD_IMAGE = 'shop:1';

/** A specification with one container of an image. */
export const specOf = (image: string, hostnames: readonly string[] = []): Partial<RawMicroserviceSpec> => ({
  containers: {
    app: { image, ...(hostnames.length === 0 ? {} : { httpPorts: { '80': [...hostnames] } }) },
  },
});

export interface ApplyOptions extends ChangeRequest {
  readonly scale?: number;
  readonly image?: string;
  readonly hostnames?: readonly string[];
  readonly spec?: Partial<RawMicroserviceSpec>;
  readonly movesHostnames?: boolean;
  /** As written by the user, when it differs. */
  readonly as?: string;
}

export interface Subject {
  readonly name: string;
  apply(options?: ApplyOptions): Promise<ChangeAccepted>;
  scale(scale: number, change?: ChangeRequest): Promise<ChangeAccepted>;
  rollback(toRelease?: number): Promise<ChangeAccepted>;
  restart(): Promise<ChangeAccepted>;
  redeploy(change?: ChangeRequest): Promise<ChangeAccepted>;
  steer(command: ReleaseCommand, by?: string): Promise<ChangeAccepted>;
  /** Waits until the record of an operation satisfies the condition. */
  recorded(accepted: ChangeAccepted, condition: (operation: Operation) => boolean): Promise<Operation>;
  /** How requests are split now: weights by release. */
  weights(): Readonly<Record<number, number>> | undefined;
  remove(change?: ChangeRequest): Promise<ChangeAccepted>;
  /** Tells the entity that something has changed, as the cluster watcher does. */
  signal(): Promise<void>;
  replicas(): readonly ObservedReplica[];
  running(): readonly ObservedReplica[];
  document(): Microservice | undefined;
  operations(): readonly Operation[];
  /** Waits until an operation has ended. */
  ended(accepted: ChangeAccepted): Promise<Operation>;
  /** Applies and waits for the end. */
  applied(options?: ApplyOptions): Promise<Operation>;
  /** Waits until the document satisfies the condition. */
  documented(condition: (document: Microservice) => boolean): Promise<Microservice>;
  /** Waits until it is steady with this many replicas of this release, and nothing is left to do. */
  steady(scale: number, release?: number): Promise<Microservice>;
  /** Waits until nothing of it is left. */
  gone(): Promise<void>;
}

const WAIT = { intervalMs: 10, timeoutMs: 15_000 } as const;

export const isFinal = ({ state }: Operation): boolean => FINAL_OPERATION_STATES.includes(state);

/** Whether a write is the record of an operation of this kind in this state. `running`: the end of its planning. */
export const isRecord = (write: KvOperation, kind: OperationKind, state: OperationState): boolean => {
  if (write.kind !== 'set' || !write.key.startsWith(KV_PREFIX.operations)) return false;
  const operation = write.value as Operation;
  return operation.kind === kind && operation.state === state;
};

let subjects = 0;

export const createSubject = (project: Project, name = `web${(subjects += 1)}`): Subject => {
  const { cluster, changes, client } = project;
  const key = { project: project.name, name };
  const subject: Subject = {
    name,
    apply: ({ scale, image = GOOD_IMAGE, hostnames = [], spec, as, ...change } = {}) =>
      changes.apply(
        { ...key, name: as ?? name },
        {
          ...change,
          name: as ?? name,
          ...(scale === undefined ? {} : { scale }),
          release: buildReleaseSpec(spec ?? specOf(image, hostnames)),
        },
      ),
    scale: (scale, change = {}) => changes.scale(key, { ...change, scale }),
    rollback: (toRelease) => changes.rollback(key, toRelease === undefined ? {} : { toRelease }),
    restart: () => changes.restart(key, {}),
    redeploy: (change = {}) => changes.redeploy(key, change),
    steer: (command, by = 'a test') => changes.steer(key, { command, wantedBy: by }),
    recorded: async ({ operation }, condition) => {
      const found = await eventuallyValue(
        () => cluster.operation(operation.id),
        (one) => one !== undefined && condition(one),
        { ...WAIT, describe: `the record of ${operation.id}` },
      );
      if (!found) throw new Error(`${operation.id} is gone`);
      return found;
    },
    weights: () => {
      const split = cluster.split(name);
      return split && Object.fromEntries(split.shares.map(({ release, weight }) => [release, weight]));
    },
    remove: (change = {}) => changes.remove(key, change),
    signal: () =>
      client.workflow
        .getHandle(microserviceWorkflowId(key))
        .signal(SIGNAL.observedChanged, { reason: 'test' }),
    replicas: () => cluster.replicas(name),
    running: () => cluster.running(name),
    document: () => cluster.microservice(name),
    operations: () => cluster.operations(name),
    ended: async ({ operation }) => {
      const ended = await eventuallyValue(
        () => cluster.operation(operation.id),
        (found) => found !== undefined && isFinal(found),
        { ...WAIT, describe: `the end of ${operation.id}` },
      );
      if (!ended) throw new Error(`${operation.id} is gone`);
      return ended;
    },
    applied: async (options) => subject.ended(await subject.apply(options)),
    documented: async (condition) => {
      const document = await eventuallyValue(
        () => cluster.microservice(name),
        (found) => found !== undefined && condition(found),
        { ...WAIT, describe: `the document of ${name}` },
      );
      if (!document) throw new Error(`${name} is gone`);
      return document;
    },
    steady: async (scale, release) => {
      const document = await subject.documented(({ state }) => state === 'steady');
      await eventuallyValue(
        () => ({
          state: cluster.microservice(name)?.state,
          running: cluster.running(name).map((one) => one.release),
          replicas: cluster.replicas(name).length,
          open: cluster.operations(name).filter((operation) => !isFinal(operation)),
        }),
        ({ state, running, replicas, open }) =>
          state === 'steady' &&
          open.length === 0 &&
          replicas === scale &&
          running.length === scale &&
          running.every((one) => release === undefined || one === release),
        { ...WAIT, describe: `${name} steady at scale ${scale}` },
      );
      return cluster.microservice(name) ?? document;
    },
    gone: async () => {
      await eventuallyValue(
        () => ({
          document: cluster.microservice(name),
          replicas: cluster.replicas(name),
          releases: cluster.releases(name),
          hostnames: Object.values(cluster.hostnames()).filter((owner) => owner === name),
        }),
        ({ document, replicas, releases, hostnames }) =>
          document === undefined && replicas.length === 0 && releases.length === 0 && hostnames.length === 0,
        { ...WAIT, describe: `the end of ${name}` },
      );
      await eventuallyValue(
        async () => (await client.workflow.getHandle(microserviceWorkflowId(key)).describe()).status.name,
        (status) => status === 'COMPLETED',
        { ...WAIT, describe: `the end of the entity of ${name}` },
      );
    },
  };
  return subject;
};
