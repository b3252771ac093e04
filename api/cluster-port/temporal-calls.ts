/**
 * What a node may ask of Temporal, call by call, and what is changed on the way. Pure.
 *
 * Invariants: exactly the calls that the worker of a node makes, found out by watching one; what is not on the list
 * is refused. A node sees its own namespace and its own queue only, and task tokens only under its own seal. All but
 * the token passes as it came, and but for causes of a failure that nobody could read.
 */

import { nodeQueue } from '../../contracts/queues';

import { bytesAt, numberAt, readFields, withBytesAt } from './protobuf-fields';
import type { TaskTokens } from './task-tokens';

/** Codes of gRPC that the gateway itself answers with. */
export const GRPC = {
  cancelled: 1,
  deadlineExceeded: 4,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

export type GrpcCode = (typeof GRPC)[keyof typeof GRPC];

/** What a call is answered with instead of being made. */
export class GrpcError extends Error {
  constructor(
    readonly code: GrpcCode,
    message: string,
  ) {
    super(message);
  }
}

export interface CallScope {
  readonly nodeId: string;
  /** The one namespace of the installation. */
  readonly namespace: string;
  readonly tokens: TaskTokens;
}

export interface TemporalCall {
  /**
   * The request as it goes on to Temporal.
   *
   * @throws {GrpcError} when the node may not ask this
   * @throws {MalformedMessage}
   */
  request(message: Buffer, scope: CallScope): Buffer;
  /** The answer as the node gets it. */
  answer?(message: Buffer, scope: CallScope): Buffer;
}

const SERVICE = '/temporal.api.workflowservice.v1.WorkflowService/';
const NORMAL_QUEUE = 1;

/** Field numbers of Temporal's messages; a test compares them with those of the SDK. */
export const FIELD = {
  poll: { namespace: 1, taskQueue: 2 },
  task: { taskToken: 1 },
  heartbeat: { taskToken: 1, namespace: 4 },
  completed: { taskToken: 1, namespace: 4 },
  failed: { taskToken: 1, failure: 2, namespace: 4 },
  canceled: { taskToken: 1, namespace: 4 },
  shutdown: { namespace: 1, stickyTaskQueue: 2, taskQueue: 7 },
  describeNamespace: { namespace: 1, id: 2 },
  queue: { name: 1, kind: 2, normalName: 3 },
  failure: { cause: 4 },
} as const;

const refuse = (words: string): never => {
  throw new GrpcError(GRPC.permissionDenied, words);
};

const assertNamespace = (found: Buffer, { namespace, nodeId }: CallScope): void => {
  if (found.equals(Buffer.from(namespace))) return;
  refuse(`The node ${nodeId} may use the namespace ${namespace} only.`);
};

const assertQueue = (found: Buffer, { nodeId }: CallScope): void => {
  if (found.equals(Buffer.from(nodeQueue(nodeId)))) return;
  refuse(`The node ${nodeId} may use the queue ${nodeQueue(nodeId)} only.`);
};

const untouched: TemporalCall = { request: (message) => message };

const describeNamespace: TemporalCall = {
  request: (message, scope) => {
    const fields = readFields(message);
    assertNamespace(bytesAt(message, fields, FIELD.describeNamespace.namespace), scope);
    if (bytesAt(message, fields, FIELD.describeNamespace.id).length > 0) {
      refuse('A node has to ask for its namespace by name.');
    }
    return message;
  },
};

const poll: TemporalCall = {
  request: (message, scope) => {
    const fields = readFields(message);
    assertNamespace(bytesAt(message, fields, FIELD.poll.namespace), scope);
    const queue = bytesAt(message, fields, FIELD.poll.taskQueue);
    const queueFields = readFields(queue);
    assertQueue(bytesAt(queue, queueFields, FIELD.queue.name), scope);
    const kind = numberAt(queue, queueFields, FIELD.queue.kind);
    const normalName = bytesAt(queue, queueFields, FIELD.queue.normalName);
    if (kind !== NORMAL_QUEUE || normalName.length > 0) refuse('A node may poll a normal queue only.');
    return message;
  },
  answer: (message, { nodeId, tokens }) => {
    const fields = readFields(message);
    const token = bytesAt(message, fields, FIELD.task.taskToken);
    // A poll that waited in vain has no task.
    if (token.length === 0) return message;
    return withBytesAt(message, fields, FIELD.task.taskToken, tokens.seal(nodeId, token));
  },
};

const ofTask = (field: { readonly taskToken: number; readonly namespace: number }): TemporalCall => ({
  request: (message, scope) => {
    const fields = readFields(message);
    assertNamespace(bytesAt(message, fields, field.namespace), scope);
    const token = scope.tokens.open(scope.nodeId, bytesAt(message, fields, field.taskToken));
    if (token === undefined) return refuse(`This task was not given to the node ${scope.nodeId}.`);
    return withBytesAt(message, fields, field.taskToken, token);
  },
});

/**
 * Causes of causes: the server takes ten thousand of them, and hands them on in histories, of which the worker of
 * the control plane reads a hundred levels at most; it would never get on with such a workflow.
 */
const MAX_CAUSES = 20;

const withFewCauses = (failure: Buffer, left: number): Buffer => {
  const fields = readFields(failure);
  const cause = bytesAt(failure, fields, FIELD.failure.cause);
  if (cause.length === 0) return failure;
  const kept = left === 0 ? Buffer.alloc(0) : withFewCauses(cause, left - 1);
  return kept === cause ? failure : withBytesAt(failure, fields, FIELD.failure.cause, kept);
};

const ofFailedTask: TemporalCall = {
  request: (message, scope) => {
    const opened = ofTask(FIELD.failed).request(message, scope);
    const fields = readFields(opened);
    const failure = bytesAt(opened, fields, FIELD.failed.failure);
    const kept = withFewCauses(failure, MAX_CAUSES);
    return kept === failure ? opened : withBytesAt(opened, fields, FIELD.failed.failure, kept);
  },
};

const shutdown: TemporalCall = {
  request: (message, scope) => {
    const fields = readFields(message);
    assertNamespace(bytesAt(message, fields, FIELD.shutdown.namespace), scope);
    // The server lets go of the sticky queue that is named here, whosever it is; a node has none.
    if (bytesAt(message, fields, FIELD.shutdown.stickyTaskQueue).length > 0) {
      refuse('A node has no sticky queue.');
    }
    const queue = bytesAt(message, fields, FIELD.shutdown.taskQueue);
    if (queue.length > 0) assertQueue(queue, scope);
    return message;
  },
};

const CALLS: ReadonlyMap<string, TemporalCall> = new Map([
  ['/grpc.health.v1.Health/Check', untouched],
  [`${SERVICE}GetSystemInfo`, untouched],
  [`${SERVICE}DescribeNamespace`, describeNamespace],
  [`${SERVICE}PollActivityTaskQueue`, poll],
  [`${SERVICE}RecordActivityTaskHeartbeat`, ofTask(FIELD.heartbeat)],
  [`${SERVICE}RespondActivityTaskCompleted`, ofTask(FIELD.completed)],
  [`${SERVICE}RespondActivityTaskFailed`, ofFailedTask],
  [`${SERVICE}RespondActivityTaskCanceled`, ofTask(FIELD.canceled)],
  [`${SERVICE}ShutdownWorker`, shutdown],
]);

/**
 * @param path of the request
 * @throws {GrpcError} `permissionDenied` when no node may make this call
 */
export const temporalCallOf = (path: string): TemporalCall =>
  CALLS.get(path) ??
  refuse(
    `A node may not call ${path.slice(path.lastIndexOf('/') + 1).slice(0, 100)}: it runs activities, no more.`,
  );
