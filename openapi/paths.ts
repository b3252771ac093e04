/**
 * Every path of the API in words: what it does, takes and answers. The document is built from this table, and a test
 * compares it with the routes of the application, both ways.
 */

import type { z } from 'zod';

import type { ErrorCode } from '../domain/errors';

import type { ComponentName } from './components';
import {
  applyQuery,
  changeQuery,
  emptyQuery,
  eventListQuery,
  logsQuery,
  microserviceChangeQuery,
  microserviceListQuery,
  microserviceLogsQuery,
  microserviceQuery,
  operationListQuery,
  operationsOfQuery,
  pagedQuery,
  removeNodeQuery,
  releaseListQuery,
  replicaListQuery,
  replicasOfQuery,
} from './parameters';

export interface PathAnswer {
  readonly description: string;
  /** By media type; a string is text without a schema. */
  readonly content: Readonly<Record<string, ComponentName | readonly ComponentName[] | 'text' | 'json'>>;
  readonly headers?: readonly HeaderName[];
}

export type HeaderName = 'ETag' | 'Location' | 'X-ContainerOS-Index' | 'X-ContainerOS-Stale-Since';
export type RequestHeaderName = 'If-Match' | 'If-None-Match' | 'Idempotency-Key' | 'Last-Event-ID';

export interface PathOperation {
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  readonly path: string;
  readonly id: string;
  readonly tag: 'Microservices' | 'Operations' | 'Replicas' | 'Nodes' | 'Certificates' | 'Events' | 'System';
  readonly summary: string;
  readonly description?: string;
  readonly open?: true;
  readonly query: z.ZodObject;
  readonly headers?: readonly RequestHeaderName[];
  readonly body?: { readonly component: ComponentName; readonly required: boolean };
  readonly answers: Readonly<Record<number, PathAnswer>>;
  /** Beside those that every path has. */
  readonly errors: readonly ErrorCode[];
}

const json = (
  component: ComponentName,
  description: string,
  headers: readonly HeaderName[] = [],
): PathAnswer => ({
  description,
  content: { 'application/json': component },
  headers,
});

const shown = (
  component: ComponentName,
  description: string,
  headers: readonly HeaderName[] = [],
): PathAnswer =>
  json(component, description, ['X-ContainerOS-Index', 'X-ContainerOS-Stale-Since', ...headers]);

/** How an operation may end; only seen by those who wait for it. */
const ENDINGS: readonly ErrorCode[] = [
  'conflict',
  'start_failed',
  'unhealthy',
  'image_not_found',
  'pull_failed',
  'no_capacity',
  'internal',
];

const CHANGE_ANSWERS = {
  200: {
    description: 'With `wait`: the operation has succeeded. With `dryRun`: what the change would do.',
    content: { 'application/json': ['Operation', 'DryRun'] },
    headers: ['ETag', 'Location'],
  } satisfies PathAnswer,
  202: json('Operation', 'Accepted and durable: it happens, whatever fails in between.', [
    'ETag',
    'Location',
  ]),
};

const CHANGE_ERRORS: readonly ErrorCode[] = [
  ...ENDINGS,
  'not_found',
  'precondition_failed',
  'unavailable',
  'too_large',
  'unsupported_media_type',
];

const change = {
  query: microserviceChangeQuery,
  answers: CHANGE_ANSWERS,
  errors: CHANGE_ERRORS,
  tag: 'Microservices',
} as const;

/** What there may be a release under way for. */
const steering = {
  ...change,
  method: 'post',
  headers: ['If-Match', 'Idempotency-Key'],
  body: { component: 'SteerRequest', required: false },
} as const;

const nodeSetting = {
  method: 'post',
  tag: 'Nodes',
  query: emptyQuery,
  body: { component: 'Empty', required: false },
  answers: { 200: json('Node', 'As it is now.', ['X-ContainerOS-Index', 'X-ContainerOS-Stale-Since']) },
  errors: ['not_found', 'unavailable', 'too_large', 'unsupported_media_type'],
} as const;

const hook = {
  method: 'post',
  tag: 'Microservices',
  open: true,
  description:
    'Only the image is changed, to one of the same repository unless the webhook allows another. What is wanted already is answered at once.',
  query: changeQuery,
  headers: ['Idempotency-Key'],
  body: { component: 'HookRequest', required: true },
  answers: {
    ...CHANGE_ANSWERS,
    200: {
      description: 'With `wait`: the operation has succeeded. Or there was nothing to do.',
      content: { 'application/json': ['Operation', 'UnchangedHook'] },
      headers: ['ETag', 'Location'],
    } satisfies PathAnswer,
  },
  errors: [...CHANGE_ERRORS, 'forbidden', 'unauthenticated', 'rate_limited'],
} as const;

const LOGS: PathAnswer = {
  description: 'Lines, oldest first. Those of several replicas or containers have their origin in front.',
  content: { 'text/plain': 'text', 'application/x-ndjson': 'text' },
};

export const PATH_OPERATIONS: readonly PathOperation[] = [
  {
    ...change,
    method: 'post',
    path: '/v1/microservices',
    id: 'applyMicroservice',
    query: applyQuery,
    summary: 'Create a microservice, or update it',
    description:
      "Everything but `name` and each container's `image` has a default. A `scale` that is left out is 1 for a new microservice and stays what it is otherwise. `/v1/microservice` is the same path.",
    headers: ['If-Match', 'If-None-Match', 'Idempotency-Key'],
    body: { component: 'MicroserviceSpec', required: true },
    errors: [...CHANGE_ERRORS, 'forbidden'],
  },
  {
    method: 'get',
    path: '/v1/microservices',
    id: 'listMicroservices',
    tag: 'Microservices',
    summary: 'All microservices',
    query: microserviceListQuery,
    answers: { 200: shown('MicroserviceList', 'In the order of their names.') },
    errors: ['unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}',
    id: 'getMicroservice',
    tag: 'Microservices',
    summary: 'One microservice',
    query: microserviceQuery,
    answers: { 200: shown('Microservice', 'As it is now.', ['ETag']) },
    errors: ['not_found', 'unavailable'],
  },
  {
    ...change,
    method: 'put',
    path: '/v1/microservices/{name}',
    id: 'replaceMicroservice',
    query: applyQuery,
    summary: 'Replace the whole specification',
    description:
      'What is left out has its default again, the scale too. Creates the microservice when it is not there.',
    headers: ['If-Match', 'If-None-Match', 'Idempotency-Key'],
    body: { component: 'MicroserviceSpec', required: true },
    errors: [...CHANGE_ERRORS, 'forbidden'],
  },
  {
    ...change,
    method: 'patch',
    path: '/v1/microservices/{name}',
    id: 'patchMicroservice',
    query: applyQuery,
    summary: 'Scale, or change a part of the specification',
    headers: ['If-Match', 'Idempotency-Key'],
    body: { component: 'MicroservicePatch', required: true },
    errors: [...CHANGE_ERRORS, 'forbidden'],
  },
  {
    ...change,
    method: 'delete',
    path: '/v1/microservices/{name}',
    id: 'removeMicroservice',
    summary: 'Stop and remove a microservice',
    headers: ['If-Match', 'Idempotency-Key'],
  },
  {
    ...change,
    method: 'post',
    path: '/v1/microservices/{name}/restart',
    id: 'restartMicroservice',
    summary: 'Replace all replicas by new ones of the same release',
    headers: ['If-Match', 'Idempotency-Key'],
    body: { component: 'Empty', required: false },
  },
  {
    ...change,
    method: 'post',
    path: '/v1/microservices/{name}/redeploy',
    id: 'redeployMicroservice',
    summary:
      'Deploy the same specification again, as a new release with the images that its tags lead to now',
    headers: ['If-Match', 'Idempotency-Key'],
    body: { component: 'Empty', required: false },
  },
  {
    ...change,
    method: 'post',
    path: '/v1/microservices/{name}/rollback',
    id: 'rollbackMicroservice',
    summary: 'Go back to an earlier release',
    headers: ['If-Match', 'Idempotency-Key'],
    body: { component: 'RollbackRequest', required: false },
  },
  {
    method: 'post',
    path: '/v1/microservices/{name}/webhooks',
    id: 'createWebhook',
    tag: 'Microservices',
    summary: 'Make a webhook with which a build deploys a new image',
    query: emptyQuery,
    body: { component: 'WebhookRequest', required: true },
    answers: { 201: json('MadeWebhook', 'The only time that the secret is shown.') },
    errors: ['not_found', 'conflict', 'unavailable', 'too_large', 'unsupported_media_type'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/webhooks',
    id: 'listWebhooks',
    tag: 'Microservices',
    summary: 'Webhooks, without their secrets, each with its last use',
    query: emptyQuery,
    answers: { 200: json('WebhookList', 'In the order of their names.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'delete',
    path: '/v1/microservices/{name}/webhooks/{webhook}',
    id: 'revokeWebhook',
    tag: 'Microservices',
    summary: 'Revoke a webhook, by its name or id',
    query: emptyQuery,
    answers: { 204: { description: 'It deploys nothing any more.', content: {} } },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'post',
    path: '/v1/microservices/{name}/webhooks/{webhook}/rotate',
    id: 'rotateWebhook',
    tag: 'Microservices',
    summary: 'Give a webhook a new secret; the old one is worth nothing at once',
    query: emptyQuery,
    body: { component: 'Empty', required: false },
    answers: { 200: json('MadeWebhook', 'The only time that the new secret is shown.') },
    errors: ['not_found', 'unavailable', 'too_large', 'unsupported_media_type'],
  },
  {
    ...hook,
    path: '/v1/hooks/{id}/{secret}',
    id: 'useWebhook',
    summary: 'Deploy by a webhook: no password is needed',
  },
  {
    ...hook,
    path: '/v1/hooks/{id}',
    id: 'useWebhookWithBearer',
    summary: 'Deploy by a webhook, whose secret comes as `Authorization: Bearer`',
  },
  {
    ...steering,
    path: '/v1/microservices/{name}/promote',
    id: 'promoteRelease',
    summary: 'Give the new release all requests now',
    description: 'Of a canary or blue-green release that is under way; 409 when there is none.',
  },
  {
    ...steering,
    path: '/v1/microservices/{name}/abort',
    id: 'abortRelease',
    summary: 'Roll back the release that is under way',
    description:
      'The operation ends as `rolled_back`, and says who aborted it; 409 when none is under way, or nothing was healthy before.',
  },
  {
    ...steering,
    path: '/v1/microservices/{name}/pause',
    id: 'pauseRelease',
    summary: 'Keep the release that is under way as far as it is',
    description:
      'Its operation is `paused`: what runs stays, and is healed, until it is resumed, promoted or aborted. A newer change takes over from it.',
  },
  {
    ...steering,
    path: '/v1/microservices/{name}/resume',
    id: 'resumeRelease',
    summary: 'Go on with a release that was paused',
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/maintenance',
    id: 'getMaintenance',
    tag: 'Microservices',
    summary: 'Whether a microservice is under maintenance',
    query: emptyQuery,
    answers: { 200: json('Maintenance', 'As it is now.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'put',
    path: '/v1/microservices/{name}/maintenance',
    id: 'beginMaintenance',
    tag: 'Microservices',
    summary: 'Let its hostnames answer 503 for a while, without a release',
    description: 'Its replicas run on. It holds until it is ended, or the microservice is removed.',
    query: emptyQuery,
    body: { component: 'MaintenanceRequest', required: false },
    answers: { 200: json('Maintenance', 'Every ingress goes by it within a second or two.') },
    errors: ['not_found', 'unavailable', 'too_large', 'unsupported_media_type'],
  },
  {
    method: 'delete',
    path: '/v1/microservices/{name}/maintenance',
    id: 'endMaintenance',
    tag: 'Microservices',
    summary: 'Let its hostnames lead to its replicas again',
    query: emptyQuery,
    answers: { 200: json('Maintenance', 'Every ingress goes by it within a second or two.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/releases',
    id: 'listReleases',
    tag: 'Microservices',
    summary: 'Releases, the newest first, each with what it changed',
    query: releaseListQuery,
    answers: { 200: shown('ReleaseList', 'Those that are kept.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/releases/{release}',
    id: 'getRelease',
    tag: 'Microservices',
    summary: 'One release',
    query: emptyQuery,
    answers: { 200: json('Release', 'As it was made.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/replicas',
    id: 'listReplicasOfMicroservice',
    tag: 'Replicas',
    summary: 'Replicas of one microservice',
    query: replicasOfQuery,
    answers: { 200: shown('ReplicaList', 'As their nodes see them, in the order of their ids.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/placement',
    id: 'explainPlacement',
    tag: 'Microservices',
    summary: 'Where one more replica could go now, and why not elsewhere',
    description:
      'What the planner would say of each node, from what nodes and replicas published. A node may still refuse.',
    query: emptyQuery,
    answers: { 200: json('Placement', 'In the order of the ids of nodes.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/operations',
    id: 'listOperationsOfMicroservice',
    tag: 'Operations',
    summary: 'Operations of one microservice, the newest first',
    query: operationsOfQuery,
    answers: { 200: shown('OperationList', 'Those that are kept.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/microservices/{name}/logs',
    id: 'readLogsOfMicroservice',
    tag: 'Replicas',
    summary: 'Logs of all replicas of one microservice',
    description: 'With `follow`, replicas that come later are followed too.',
    query: microserviceLogsQuery,
    answers: { 200: LOGS },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/replicas',
    id: 'listReplicas',
    tag: 'Replicas',
    summary: 'All replicas',
    query: replicaListQuery,
    answers: { 200: shown('ReplicaList', 'As their nodes see them, in the order of their ids.') },
    errors: ['unavailable'],
  },
  {
    method: 'get',
    path: '/v1/replicas/{id}',
    id: 'getReplica',
    tag: 'Replicas',
    summary: 'One replica',
    query: microserviceQuery,
    answers: { 200: shown('Replica', 'As its node sees it.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/replicas/{id}/logs',
    id: 'readLogsOfReplica',
    tag: 'Replicas',
    summary: 'Logs of one replica',
    query: logsQuery,
    answers: { 200: LOGS },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'post',
    path: '/v1/replicas/{id}/exec',
    id: 'runCommand',
    tag: 'Replicas',
    summary: 'Run a command in a container of a replica',
    description:
      'Answers when the command has ended, whatever its exit code. It is ended when its time is over, and when the client goes away.',
    query: emptyQuery,
    body: { component: 'ExecRequest', required: true },
    answers: { 200: json('ExecResult', 'The command has ended.') },
    errors: [
      'not_found',
      'conflict',
      'command_not_found',
      'command_not_executable',
      'unavailable',
      'too_large',
      'unsupported_media_type',
    ],
  },
  {
    method: 'get',
    path: '/v1/replicas/{id}/exec',
    id: 'attachCommand',
    tag: 'Replicas',
    summary: 'Run a command in a container of a replica, interactively',
    description:
      'A WebSocket. The first message is a JSON text `{"kind": "start", "command": ["/bin/sh"], "stdin": true, "tty": true, "columns": 80, "rows": 24}`, with `container`, `env`, `user` and `workingDirectory` as in the body of POST. Then binary messages are one byte for the channel (0 stdin, 1 stdout, 2 stderr) and the data; stdin without data is its end. Text messages are JSON: `{"kind": "resize", "columns": 80, "rows": 24}` and `{"kind": "signal", "signal": "SIGINT"}` of the client; `{"kind": "started", …}`, and at the end `{"kind": "exited", "exitCode": 0}` or `{"kind": "failed", "problem": …}` of the API. The command ends with the connection.',
    query: emptyQuery,
    answers: { 101: { description: 'The connection is a WebSocket from here on.', content: {} } },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/nodes',
    id: 'listNodes',
    tag: 'Nodes',
    summary: 'All nodes',
    query: pagedQuery,
    answers: { 200: shown('NodeList', 'With CPU, memory, disk and health, in the order of their ids.') },
    errors: ['unavailable'],
  },
  {
    method: 'get',
    path: '/v1/nodes/{id}',
    id: 'getNode',
    tag: 'Nodes',
    summary: 'One node',
    query: microserviceQuery,
    answers: { 200: shown('Node', 'With CPU, memory, disk and health.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'delete',
    path: '/v1/nodes/{id}',
    id: 'removeNode',
    tag: 'Nodes',
    summary: 'Remove a node for good',
    description:
      'Takes its identity, its access and its membership away; what ran there starts elsewhere. A removal that failed half-way is finished by repeating it. The head node, whose machine runs the control plane, cannot be removed, nor, without `force`, a node that is up and has replicas.',
    query: removeNodeQuery,
    answers: { 200: json('RemovedNode', 'Its name may be used again.') },
    errors: ['not_found', 'conflict', 'unavailable'],
  },
  {
    method: 'post',
    path: '/v1/join-tokens',
    id: 'createJoinToken',
    tag: 'Nodes',
    summary: 'Make a token with which machines join as nodes',
    query: emptyQuery,
    body: { component: 'JoinTokenRequest', required: false },
    answers: { 201: json('MadeJoinToken', 'The only time that the secret is shown.') },
    errors: ['conflict', 'unavailable', 'too_large', 'unsupported_media_type'],
  },
  {
    method: 'get',
    path: '/v1/join-tokens',
    id: 'listJoinTokens',
    tag: 'Nodes',
    summary: 'Join tokens, the newest first, without their secrets',
    query: emptyQuery,
    answers: { 200: json('JoinTokenList', 'Those that are kept: until a week after they expired.') },
    errors: ['unavailable'],
  },
  {
    method: 'delete',
    path: '/v1/join-tokens/{id}',
    id: 'revokeJoinToken',
    tag: 'Nodes',
    summary: 'Revoke a join token',
    description: 'Nodes that joined with it stay.',
    query: emptyQuery,
    answers: { 204: { description: 'It lets nobody in any more.', content: {} } },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/certificates',
    id: 'listCertificates',
    tag: 'Certificates',
    summary: 'Certificates of hostnames, by hostname, and how issuing stands',
    query: emptyQuery,
    answers: {
      200: json(
        'CertificateList',
        'Those that there are, without their private keys, and the hostnames of microservices that have none yet.',
      ),
    },
    errors: ['unavailable'],
  },
  {
    method: 'get',
    path: '/v1/certificates/{hostname}',
    id: 'getCertificate',
    tag: 'Certificates',
    summary: 'The certificate of a hostname, and how issuing stands',
    query: emptyQuery,
    answers: { 200: json('Certificate', 'Without its private key; also of a hostname that has none yet.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'put',
    path: '/v1/certificates/{hostname}',
    id: 'uploadCertificate',
    tag: 'Certificates',
    summary: 'Use a certificate of your own',
    description:
      'It takes the place of what there was, on every node from the next handshake on, and is not renewed: upload the next one in time.',
    query: emptyQuery,
    body: { component: 'CertificateRequest', required: true },
    answers: { 200: json('Certificate', 'As it is used from now on.') },
    errors: ['unavailable', 'too_large', 'unsupported_media_type'],
  },
  {
    method: 'delete',
    path: '/v1/certificates/{hostname}',
    id: 'removeCertificate',
    tag: 'Certificates',
    summary: 'Remove a certificate',
    description: 'A hostname of a microservice then gets one of an authority.',
    query: emptyQuery,
    answers: { 204: { description: 'It is not used any more.', content: {} } },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'post',
    path: '/v1/certificates/{hostname}/retry',
    id: 'retryCertificate',
    tag: 'Certificates',
    summary: 'Try now to get the certificate of a public hostname',
    description:
      'For when what was in the way is mended; else it is tried again by itself, at `issuing.nextAttemptAt`. Limits of authorities are kept to all the same.',
    query: emptyQuery,
    body: { component: 'Empty', required: false },
    answers: { 202: json('Certificate', 'As it stands before that.') },
    errors: ['not_found', 'conflict', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/authority',
    id: 'getAuthority',
    tag: 'Certificates',
    summary: 'The authority for private hostnames',
    description:
      'Who trusts it can open https://NAME.localhost and the like; `containeros trust` has a machine do so.',
    query: emptyQuery,
    answers: { 200: json('Authority', 'Its root.') },
    errors: ['unavailable'],
  },
  {
    ...nodeSetting,
    path: '/v1/nodes/{id}/cordon',
    id: 'cordonNode',
    summary: 'Let a node keep what it has, and take nothing new',
  },
  {
    ...nodeSetting,
    path: '/v1/nodes/{id}/uncordon',
    id: 'uncordonNode',
    summary: 'Let a node take replicas again',
    description: 'Also ends a drain; what has moved stays where it is.',
  },
  {
    ...nodeSetting,
    path: '/v1/nodes/{id}/drain',
    id: 'drainNode',
    summary: 'Move what a node has elsewhere',
    description:
      'Each replica starts elsewhere before it stops here; what finds no room goes on here, and its microservice says why. Replicas that keep data in volumes stay. The event `node.drained` tells when nothing is left.',
  },
  {
    method: 'get',
    path: '/v1/operations',
    id: 'listOperations',
    tag: 'Operations',
    summary: 'Operations, the newest first',
    query: operationListQuery,
    answers: { 200: shown('OperationList', 'Those that are kept.') },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/operations/{id}',
    id: 'getOperation',
    tag: 'Operations',
    summary: 'One operation',
    description:
      'With `wait` the answer is that of the change itself: 200 only when the operation has succeeded.',
    query: changeQuery,
    answers: {
      200: json('Operation', 'As it is now, or with `wait`: it has succeeded.', ['Location']),
      202: json('Operation', 'With `wait`: it has not ended in time.', ['Location']),
    },
    errors: ['not_found', 'unavailable', ...ENDINGS],
  },
  {
    method: 'get',
    path: '/v1/operations/{id}/follow',
    id: 'followOperation',
    tag: 'Operations',
    summary: 'An operation with each of its changes, until it has ended',
    description: 'Each line (or server-sent event `operation`) is an Operation. Empty lines have no meaning.',
    query: emptyQuery,
    answers: {
      200: {
        description: 'Until the operation has ended.',
        content: { 'application/x-ndjson': 'text', 'text/event-stream': 'text' },
      },
    },
    errors: ['not_found', 'unavailable'],
  },
  {
    method: 'get',
    path: '/v1/events',
    id: 'listEvents',
    tag: 'Events',
    summary: 'What has happened, and what happens',
    description:
      'With `Accept: text/event-stream` new events come as they happen; `Last-Event-ID` (or `since`) takes the stream up where it broke off, and an event `gap` says when some are no longer kept. Otherwise the newest ones as a list.',
    query: eventListQuery,
    headers: ['Last-Event-ID'],
    answers: {
      200: {
        description: 'In the order in which they came in.',
        content: { 'application/json': 'EventList', 'text/event-stream': 'text' },
        headers: ['X-ContainerOS-Index', 'X-ContainerOS-Stale-Since'],
      },
    },
    errors: ['unavailable'],
  },
  {
    method: 'get',
    path: '/',
    id: 'about',
    tag: 'System',
    summary: 'What answers here',
    open: true,
    query: emptyQuery,
    answers: { 200: json('About', 'ContainerOS.') },
    errors: [],
  },
  {
    method: 'get',
    path: '/healthz',
    id: 'isAlive',
    tag: 'System',
    summary: 'Whether the process lives',
    open: true,
    query: emptyQuery,
    answers: { 200: json('Health', 'It does.') },
    errors: [],
  },
  {
    method: 'get',
    path: '/readyz',
    id: 'isReady',
    tag: 'System',
    summary: 'Whether ContainerOS works',
    open: true,
    query: emptyQuery,
    answers: { 200: json('Health', 'It does.') },
    errors: ['unavailable'],
  },
  {
    method: 'get',
    path: '/metrics',
    id: 'metrics',
    tag: 'System',
    summary: 'Metrics for Prometheus',
    query: emptyQuery,
    answers: { 200: { description: 'In the text format.', content: { 'text/plain': 'text' } } },
    errors: [],
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'document',
    tag: 'System',
    summary: 'This document',
    open: true,
    query: emptyQuery,
    answers: { 200: { description: 'OpenAPI 3.1.', content: { 'application/json': 'json' } } },
    errors: [],
  },
];
