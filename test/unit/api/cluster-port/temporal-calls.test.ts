// What a node may ask of Temporal, against the messages as the SDK encodes and numbers them.
import { temporal } from '@temporalio/proto';
import fc from 'fast-check';

import {
  readFields,
  withBytesAt,
  bytesAt,
  MalformedMessage,
} from '../../../../api/cluster-port/protobuf-fields';
import { createTaskTokens } from '../../../../api/cluster-port/task-tokens';
import { FIELD, GrpcError, temporalCallOf } from '../../../../api/cluster-port/temporal-calls';

const api = temporal.api.workflowservice.v1;
const SERVICE = '/temporal.api.workflowservice.v1.WorkflowService/';
const tokens = createTaskTokens('internal-token');
const scope = { nodeId: 'a', namespace: 'default', tokens };
const ask = (method: string, message: Uint8Array) =>
  temporalCallOf(`${SERVICE}${method}`).request(Buffer.from(message), scope);
const kind = temporal.api.enums.v1.TaskQueueKind;

const poll = (change: object = {}, queue: object = {}) =>
  api.PollActivityTaskQueueRequest.encode({
    namespace: 'default',
    taskQueue: { name: 'node-a', kind: kind.TASK_QUEUE_KIND_NORMAL, ...queue },
    identity: 'worker',
    ...change,
  }).finish();

test('a poll of the own queue passes as it is; any other is refused', () => {
  expect(ask('PollActivityTaskQueue', poll())).toEqual(Buffer.from(poll()));
  for (const other of [
    poll({}, { name: 'node-b' }),
    poll({}, { name: 'control-plane' }),
    poll({}, { name: 'node-a ' }),
    poll({}, { name: '/_sys/node-b/1' }),
    poll({}, { kind: kind.TASK_QUEUE_KIND_STICKY }),
    poll({}, { kind: kind.TASK_QUEUE_KIND_UNSPECIFIED }),
    poll({}, { normalName: 'node-b' }),
    poll({ taskQueue: null }),
    poll({ namespace: 'temporal-system' }),
    poll({ namespace: '' }),
  ]) {
    expect(() => ask('PollActivityTaskQueue', other)).toThrow(GrpcError);
  }
});

test('a message that two readers could understand differently is malformed', () => {
  const twice = Buffer.concat([poll(), poll({}, { name: 'node-b' })]);
  expect(() => ask('PollActivityTaskQueue', twice)).toThrow(MalformedMessage);
});

test('tasks are sealed, and only a token of the same node is opened again', () => {
  const call = temporalCallOf(`${SERVICE}PollActivityTaskQueue`);
  const task = {
    taskToken: Buffer.from('token'),
    activityId: '7',
    attempt: 3,
    input: { payloads: [{ data: Buffer.alloc(300) }] },
  };
  const answer = call.answer?.(Buffer.from(api.PollActivityTaskQueueResponse.encode(task).finish()), scope);
  const got = api.PollActivityTaskQueueResponse.decode(answer ?? Buffer.alloc(0));
  expect(got).toMatchObject({ activityId: '7', attempt: 3 });
  expect(got.input?.payloads?.[0]?.data).toHaveLength(300);
  expect(tokens.open('a', got.taskToken)).toEqual(Buffer.from('token'));

  for (const [method, type] of [
    ['RespondActivityTaskCompleted', api.RespondActivityTaskCompletedRequest],
    ['RespondActivityTaskFailed', api.RespondActivityTaskFailedRequest],
    ['RespondActivityTaskCanceled', api.RespondActivityTaskCanceledRequest],
    ['RecordActivityTaskHeartbeat', api.RecordActivityTaskHeartbeatRequest],
  ] as const) {
    const say = (taskToken: Uint8Array, namespace = 'default') =>
      ask(method, type.encode({ taskToken, namespace, identity: 'worker' }).finish());
    expect(type.decode(say(got.taskToken))).toMatchObject({
      taskToken: Buffer.from('token'),
      identity: 'worker',
    });
    expect(() => say(Buffer.from('token'))).toThrow('not given to the node a');
    expect(() => say(tokens.seal('b', Buffer.from('token')))).toThrow('not given to the node a');
    expect(() => say(Buffer.alloc(0))).toThrow('not given to the node a');
    expect(() => say(got.taskToken, 'other')).toThrow('namespace default only');
  }
});

test('a poll that waited in vain passes as it is', () => {
  const call = temporalCallOf(`${SERVICE}PollActivityTaskQueue`);
  expect(call.answer?.(Buffer.alloc(0), scope)).toHaveLength(0);
});

const failureOf = (causes: number): object =>
  Array.from({ length: causes }).reduce<object>((cause, _, index) => ({ message: `${index}`, cause }), {
    message: 'first',
  });

test('of what a task failed of, no more causes pass than anybody can read', () => {
  const say = (causes: number) => {
    const taskToken = tokens.seal('a', Buffer.from('token'));
    const message = { taskToken, namespace: 'default', failure: failureOf(causes), identity: 'worker' };
    const sent = Buffer.from(api.RespondActivityTaskFailedRequest.encode(message).finish());
    const passed = ask('RespondActivityTaskFailed', sent);
    const opened = withBytesAt(sent, readFields(sent), FIELD.failed.taskToken, Buffer.from('token'));
    const messages: string[] = [];
    let { failure } = api.RespondActivityTaskFailedRequest.decode(passed);
    for (; failure; failure = failure.cause) messages.push(failure.message ?? '');
    return { passed, opened, messages };
  };
  for (const causes of [0, 1, 20]) {
    const { passed, opened, messages } = say(causes);
    expect(passed).toEqual(opened);
    expect(messages).toHaveLength(causes + 1);
  }
  for (const causes of [21, 60, 90]) {
    const { passed, messages } = say(causes);
    expect(messages).toHaveLength(22);
    expect(messages.slice(0, 2)).toEqual([`${causes - 1}`, `${causes - 2}`]);
    expect(api.RespondActivityTaskFailedRequest.decode(passed)).toMatchObject({ identity: 'worker' });
  }
});

test('the end of a worker is told of its own queue only', () => {
  const say = (change: object) =>
    ask('ShutdownWorker', api.ShutdownWorkerRequest.encode({ namespace: 'default', ...change }).finish());
  say({ taskQueue: 'node-a' });
  say({});
  for (const change of [{ taskQueue: 'node-b' }, { stickyTaskQueue: 'sticky' }, { namespace: 'x' }])
    expect(() => say(change)).toThrow(GrpcError);
});

test('a namespace is described by its own name only', () => {
  const say = (change: object) =>
    ask('DescribeNamespace', api.DescribeNamespaceRequest.encode(change).finish());
  say({ namespace: 'default' });
  for (const change of [{}, { namespace: 'x' }, { namespace: 'default', id: 'y' }])
    expect(() => say(change)).toThrow(GrpcError);
});

test('every other call of the service is refused, and so is every other service', () => {
  const allowed = [
    'GetSystemInfo',
    'DescribeNamespace',
    'PollActivityTaskQueue',
    'RecordActivityTaskHeartbeat',
    'RespondActivityTaskCompleted',
    'RespondActivityTaskFailed',
    'RespondActivityTaskCanceled',
    'ShutdownWorker',
  ];
  const methods = Object.keys(api)
    .filter((name) => name.endsWith('Request'))
    .map((name) => name.slice(0, -'Request'.length));
  expect(methods.length).toBeGreaterThan(80);
  for (const method of methods) {
    const find = () => temporalCallOf(`${SERVICE}${method}`);
    if (allowed.includes(method)) find();
    else expect(find).toThrow(`A node may not call ${method}`);
  }
  for (const path of [
    '',
    '/',
    '/temporal.api.operatorservice.v1.OperatorService/DeleteNamespace',
    `${SERVICE}GetSystemInfo/`,
  ])
    expect(() => temporalCallOf(path)).toThrow(GrpcError);
});

test('the numbers of fields are those of the SDK', () => {
  const types = {
    poll: api.PollActivityTaskQueueRequest,
    task: api.PollActivityTaskQueueResponse,
    heartbeat: api.RecordActivityTaskHeartbeatRequest,
    completed: api.RespondActivityTaskCompletedRequest,
    failed: api.RespondActivityTaskFailedRequest,
    canceled: api.RespondActivityTaskCanceledRequest,
    shutdown: api.ShutdownWorkerRequest,
    describeNamespace: api.DescribeNamespaceRequest,
    queue: temporal.api.taskqueue.v1.TaskQueue,
    failure: temporal.api.failure.v1.Failure,
  } as const;
  for (const [name, numbers] of Object.entries(FIELD)) {
    const type = types[name as keyof typeof types] as { encode(message: object): { finish(): Uint8Array } };
    for (const [field, number] of Object.entries(numbers)) {
      const value =
        field === 'taskQueue' && name === 'poll'
          ? { name: 'x' }
          : field === 'failure' || field === 'cause'
            ? { message: 'x' }
            : field === 'kind'
              ? 1
              : field === 'taskToken'
                ? Buffer.of(1)
                : 'x';
      expect([
        name,
        field,
        readFields(Buffer.from(type.encode({ [field]: value }).finish())).map((one) => one.number),
      ]).toEqual([name, field, [number]]);
    }
  }
});

test('replacing a field leaves all others as they were', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.string(), fc.uint8Array({ maxLength: 400 }), (token, identity, next) => {
      const type = api.RecordActivityTaskHeartbeatRequest;
      const message = Buffer.from(type.encode({ taskToken: token, identity, namespace: 'n' }).finish());
      const changed = withBytesAt(message, readFields(message), 1, Buffer.from(next));
      expect(bytesAt(changed, readFields(changed), 1)).toEqual(Buffer.from(next));
      expect(type.decode(changed)).toMatchObject({ identity, namespace: 'n' });
    }),
  );
});

test('garbage is malformed or understood, and never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (garbage) => {
      for (const method of [
        'PollActivityTaskQueue',
        'RespondActivityTaskCompleted',
        'ShutdownWorker',
        'DescribeNamespace',
      ]) {
        try {
          ask(method, garbage);
          throw new Error('it was let through');
        } catch (error) {
          expect(error instanceof GrpcError || error instanceof MalformedMessage).toBe(true);
        }
      }
    }),
    { numRuns: 500 },
  );
});
