/**
 * What the API answers with, as zod schemas: the types of api/views.ts and the components of the OpenAPI document.
 *
 * Invariants: objects are strict, so that an answer with a field that is not described fails the fuzz test; times are
 * ISO 8601 in UTC; sizes carry their unit in their names.
 */

import { z } from 'zod';

import { ERROR_TABLE, type ErrorCode } from '../domain/errors';
import type { OperationKind, OperationState } from '../domain/model';
import { addressesSchema } from '../domain/spec/route-schema';
import { microserviceNameSchema, microserviceSpecSchema, scaleSchema } from '../domain/spec/schema';

const time = () =>
  z.iso.datetime().meta({ description: 'ISO 8601, UTC.', example: '2025-01-31T12:00:00.000Z' });
const count = () => z.int().min(0);
const bytes = () => z.int().min(0);
/** A version of what is shown; hand it back as `?watch=` to wait for the next one. */
const version = () =>
  z.int().min(0).meta({ description: 'Hand it back as `?watch=` to wait until something has changed.' });

const errorCodes = Object.keys(ERROR_TABLE) as [ErrorCode, ...ErrorCode[]];

export const problemSchema = z
  .strictObject({
    type: z.string().meta({ description: 'A page about this kind of error.' }),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string().meta({ description: 'What happened, why, and what to do next.' }),
    code: z.enum(errorCodes),
    retryable: z.boolean().meta({ description: 'Whether the same request may succeed later.' }),
    requestId: z.string(),
    problems: z
      .array(
        z.strictObject({
          path: z.string().meta({ description: 'JSON pointer into the body; empty for all of it.' }),
          message: z.string(),
        }),
      )
      .optional()
      .meta({ description: 'Every single thing that is wrong, with its place.' }),
    allowed: z
      .array(z.string())
      .optional()
      .meta({ description: 'With 405: the methods that the path takes.' }),
    errorId: z.string().optional().meta({ description: 'With 500: what to look for in the log.' }),
    get operation() {
      return operationSchema.optional();
    },
  })
  .meta({ description: 'An error as of RFC 9457.' });

export const actorSchema = z
  .strictObject({
    kind: z.enum(['password', 'webhook', 'user', 'system']),
    name: z.string().optional().meta({ description: 'Of the webhook or the user.' }),
  })
  .meta({
    description: 'Who asked for it. `system`: ContainerOS itself, to keep what was asked for before.',
  });

const operationKinds = [
  'deploy',
  'scale',
  'reschedule',
  'restart',
  'rollback',
  'remove',
] as const satisfies readonly OperationKind[];
const operationStates = [
  'queued',
  'running',
  'paused',
  'succeeded',
  'failed',
  'rolled_back',
  'superseded',
] as const satisfies readonly OperationState[];

export const operationKindSchema = z.enum(operationKinds);
export const operationStateSchema = z.enum(operationStates);

export const operationSchema = z
  .strictObject({
    id: z.string().meta({ example: 'deploy.default.hello.1f0c9a77d2e4' }),
    kind: operationKindSchema,
    project: z.string(),
    microservice: z.string(),
    state: operationStateSchema,
    final: z.boolean().meta({ description: 'Whether the state is the last one.' }),
    release: count(),
    scale: count(),
    message: z.string(),
    plan: z.array(z.string()).meta({ description: 'What is done, a step a line.' }),
    error: z
      .strictObject({
        code: z.enum(errorCodes),
        message: z.string(),
        logTail: z
          .array(z.string())
          .meta({ description: 'The last lines of the container that failed, oldest first.' }),
      })
      .optional(),
    by: actorSchema.optional(),
    createdAt: time(),
    startedAt: time().optional(),
    endedAt: time().optional(),
    generation: count().optional().meta({
      description: 'Of the microservice, after this change; only in the answer to the change itself.',
    }),
    created: z.boolean().optional().meta({
      description: 'Whether the change made the microservice; only in the answer to the change itself.',
    }),
    links: z.strictObject({
      self: z.string(),
      follow: z.string(),
      microservice: z.string(),
      webUi: z.string().optional().meta({ description: 'The operation in the Temporal Web UI.' }),
    }),
  })
  .meta({ description: 'One deploy, scale, reschedule, restart, rollback or removal.' });

const replicaStates = [
  'starting',
  'running',
  'unhealthy',
  'restarting',
  'crash_looping',
  'paused',
  'stopping',
  'exited',
  'broken',
  'lost',
] as const;

export const replicaStateSchema = z.enum(replicaStates);

export const replicaSchema = z
  .strictObject({
    id: z.string(),
    project: z.string(),
    microservice: z.string(),
    release: count(),
    node: z.string(),
    state: replicaStateSchema,
    healthy: z.boolean().meta({ description: 'Whether all its containers run and all its checks pass.' }),
    reason: z.string().optional().meta({ description: 'Why it is not running.' }),
    restartCount: count(),
    operation: z.string().meta({ description: 'The operation that started it.' }),
    ports: z.array(
      z.strictObject({
        container: z.string(),
        port: z.int(),
        protocol: z.enum(['tcp', 'udp']),
        address: z
          .string()
          .meta({ description: 'Address and port on the node.', example: '127.0.0.1:32768' }),
        hostPort: z.int(),
        serviceId: z.string().meta({ description: 'Id of the service instance in Consul.' }),
        hostnames: z.array(z.string()),
        publicPorts: z
          .array(z.int())
          .optional()
          .meta({ description: 'Ports of every node that lead to it.' }),
      }),
    ),
    containers: z.array(
      z.strictObject({
        name: z.string(),
        containerId: z.string(),
        image: z.string(),
        imageId: z.string(),
        running: z.boolean(),
        restartCount: count(),
        exitCode: z.int().optional(),
        oomKilled: z.boolean().optional(),
        startedAt: time().optional(),
      }),
    ),
    cpusReserved: z.number(),
    memoryReservedBytes: bytes(),
    createdAt: time(),
    updatedAt: time(),
    links: z.strictObject({ self: z.string(), logs: z.string(), microservice: z.string() }),
  })
  .meta({ description: 'One running copy of a release on one node.' });

export const microserviceStateSchema = z.enum(['steady', 'changing', 'failed', 'removing']);

export const microserviceSchema = z
  .strictObject({
    name: z.string(),
    project: z.string(),
    specification: microserviceSpecSchema.meta({ description: 'As one would write it.' }),
    scale: count(),
    release: count().meta({ description: 'Number of the release that is wanted.' }),
    settledRelease: count().optional().meta({ description: 'The newest release that was healthy.' }),
    generation: count().meta({
      description: 'Grows with every change; the ETag, for If-Match.',
    }),
    state: microserviceStateSchema.meta({
      description: 'How its operations went; `health` tells how its replicas do.',
    }),
    health: z.enum(['healthy', 'degraded', 'unavailable', 'completed', 'idle']).meta({
      description:
        'As its replicas are seen now: all run (healthy), some (degraded), none (unavailable); the job is done (completed); scale 0 (idle).',
    }),
    healthReason: z.string().optional().meta({ description: 'Why it is degraded or unavailable.' }),
    message: z.string(),
    operation: z.string().meta({ description: 'The newest operation.' }),
    replicas: z.strictObject({
      desired: count(),
      running: count().meta({ description: 'Those that serve.' }),
      starting: count(),
      unhealthy: count(),
      restarting: count().meta({ description: 'Crash loops too.' }),
      lost: count().meta({ description: 'Those on nodes that do not answer.' }),
      other: count(),
      outdated: count().meta({ description: 'Those of another release, in whatever state.' }),
    }),
    endpoints: z
      .array(
        z.strictObject({
          container: z.string(),
          port: z.int(),
          protocol: z.enum(['tcp', 'udp']),
          address: z.string(),
          replica: z.string(),
        }),
      )
      .meta({ description: 'Where running replicas can be reached directly.' }),
    urls: z.array(z.string()).meta({
      description:
        'The hostnames that the specification asks for, by https where they have a certificate or get one.',
    }),
    split: z
      .strictObject({
        operation: z.string().meta({ description: 'The one that splits them.' }),
        release: count().meta({ description: 'The release that takes over.' }),
        judged: z.boolean().meta({
          description: 'Whether what the releases answer is compared, to roll back one that is worse.',
        }),
        shares: z
          .array(
            z.strictObject({
              release: count(),
              weight: z.number().meta({ description: 'Parts of 100 of the requests.' }),
            }),
          )
          .meta({ description: 'Releases that are not named get none.' }),
      })
      .optional()
      .meta({ description: 'How requests are split while one release takes over from another.' }),
    publicPorts: z
      .array(
        z.strictObject({
          port: z.int().meta({ example: 5432 }),
          protocol: z.enum(['tcp', 'udp']),
          container: z.string(),
          containerPort: z.int(),
          troubles: z
            .array(z.strictObject({ node: z.string(), reason: z.string() }))
            .meta({ description: 'Nodes that do not answer on it, and why.' }),
        }),
      )
      .meta({ description: 'The ports of every node that the specification asks for.' }),
    createdAt: time(),
    updatedAt: time(),
    links: z.strictObject({
      self: z.string(),
      replicas: z.string(),
      releases: z.string(),
      operations: z.string(),
      placement: z.string(),
      logs: z.string(),
      webUi: z.string().optional(),
    }),
  })
  .meta({ description: 'A microservice: what is wanted, and how far it has come.' });

export const releaseSchema = z
  .strictObject({
    number: count(),
    current: z.boolean().meta({ description: 'Whether it is the one that is wanted.' }),
    settled: z.boolean().meta({ description: 'Whether it is the newest one that was healthy.' }),
    weight: z.number().optional().meta({
      description: 'Parts of 100 of the requests that it gets, while one release takes over from another.',
    }),
    operation: z
      .strictObject({ id: z.string(), state: operationStateSchema, message: z.string() })
      .optional()
      .meta({
        description:
          'Of the release that is wanted and has not been healthy: the operation that brings it, and how far that is, what it waits for, or why it failed.',
      }),
    rollbackOf: count().optional().meta({ description: 'The release that was gone back to.' }),
    redeployOf: count()
      .optional()
      .meta({ description: 'The release that was deployed again, its images looked up anew.' }),
    specification: z
      .record(z.string(), z.unknown())
      .meta({ description: 'As one would write it, without the scale, which is not part of a release.' }),
    diff: z
      .array(z.string())
      .meta({ description: 'What changed since the release before it that is kept, in words.' }),
    images: z.record(z.string(), z.string()).optional().meta({
      description:
        'The digest of each image that is named by a tag: what every replica of the release runs. Left out until they have been looked up.',
    }),
    localImages: z
      .record(z.string(), z.record(z.string(), z.string()))
      .optional()
      .meta({ description: 'Ids of images that are in no registry, by image and architecture.' }),
    by: actorSchema.optional(),
    createdAt: time(),
    links: z.strictObject({ self: z.string(), microservice: z.string() }),
  })
  .meta({ description: 'An immutable, numbered specification.' });

export const placementSchema = z
  .strictObject({
    microservice: z.string(),
    release: count(),
    fitting: count().meta({ description: 'How many nodes would take one more replica now.' }),
    nodes: z.array(
      z.strictObject({
        node: z.string(),
        fits: z.boolean(),
        reason: z.string().meta({ example: 'needs the label disk=ssd, which is not set' }),
      }),
    ),
    links: z.strictObject({ microservice: z.string() }),
  })
  .meta({ description: 'Where one more replica could go, and why not elsewhere.' });

export const nodeHealthSchema = z.enum(['healthy', 'degraded', 'lost']);

export const nodeSchema = z
  .strictObject({
    id: z.string(),
    address: z.string(),
    architecture: z.string(),
    dockerVersion: z.string(),
    containerosVersion: z
      .string()
      .meta({ description: 'The version that it runs. Left out when it does not say so.' })
      .optional(),
    health: nodeHealthSchema,
    availability: z.enum(['active', 'cordoned', 'draining']).meta({
      description:
        'What an operator lets it do. cordoned: it keeps what it has and takes nothing new; draining: what it has moves elsewhere.',
    }),
    unstableUntil: time()
      .meta({
        description:
          'It was lost and came back several times: until then it is used only where no other node will do. Left out when it is calm.',
      })
      .optional(),
    connected: z.boolean().meta({ description: 'Whether its worker holds its stream to this API open.' }),
    reasons: z.array(z.string()),
    cpus: z.number(),
    cpusReserved: z.number(),
    cpuPercent: z.number(),
    memoryBytes: bytes(),
    memoryReservedBytes: bytes(),
    memoryAvailableBytes: bytes(),
    diskBytes: bytes(),
    diskFreeBytes: bytes(),
    replicas: count(),
    images: z.array(z.string()),
    labels: z.record(z.string(), z.string()),
    updatedAt: time(),
    links: z.strictObject({ self: z.string(), replicas: z.string() }),
  })
  .meta({ description: 'A machine with a Docker Engine.' });

export const removedNodeSchema = z
  .strictObject({
    id: z.string(),
    message: z.string().meta({ description: 'What is left to do, if something is.' }),
  })
  .meta({ description: 'A node that is none any more.' });

export const eventSchema = z
  .strictObject({
    id: z.string().meta({ description: 'Hand it back as `since` or Last-Event-ID.' }),
    at: time(),
    nodeAt: time().optional().meta({
      description:
        'What the clock of the node said, where it is not believed: `at` is when the cluster heard of it then.',
    }),
    level: z.enum(['info', 'warning', 'error']),
    type: z.string().meta({ example: 'operation.succeeded' }),
    message: z.string(),
    project: z.string().optional(),
    microservice: z.string().optional(),
    operation: z.string().optional(),
    replica: z.string().optional(),
    node: z.string().optional(),
  })
  .meta({ description: 'Something that happened.' });

export const logLineSchema = z
  .strictObject({
    replica: z.string(),
    container: z.string(),
    stream: z.enum(['stdout', 'stderr']),
    at: time(),
    line: z.string(),
  })
  .meta({ description: 'One line that a container wrote.' });

const listOf = <T extends z.ZodType>(item: T) =>
  z.strictObject({
    index: version(),
    items: z.array(item),
    next: z
      .string()
      .optional()
      .meta({ description: 'When there is more: hand it back as `?after=` (of events: `?since=`).' }),
  });

export const microserviceListSchema = listOf(microserviceSchema);
export const replicaListSchema = listOf(replicaSchema);
export const nodeListSchema = listOf(nodeSchema);
export const eventListSchema = listOf(eventSchema);
export const releaseListSchema = listOf(releaseSchema);
export const operationListSchema = listOf(operationSchema);

export const aboutSchema = z
  .strictObject({
    name: z.literal('ContainerOS'),
    version: z.string(),
    api: z.string(),
    documentation: z.string(),
  })
  .meta({ description: 'What answers here.' });

export const healthSchema = z.strictObject({ status: z.literal('ok') });

export const joinTokenSchema = z
  .strictObject({
    id: z.string(),
    createdAt: time(),
    expiresAt: time(),
    usesLeft: count(),
    usedBy: z.array(z.string()).meta({ description: 'Ids of the nodes that joined with it.' }),
    revokedAt: time().optional(),
  })
  .meta({ description: 'A join token, without its secret.' });

export const joinTokenListSchema = z.strictObject({ items: z.array(joinTokenSchema) });

export const madeJoinTokenSchema = z
  .strictObject({
    id: z.string(),
    token: z.string().meta({ description: 'Shown this once. Whoever has it can add a node.' }),
    command: z.string().meta({ description: 'What to run on the machine that is to become a node.' }),
    expiresAt: time(),
    uses: count(),
  })
  .meta({ description: 'A new join token.' });

export const certificateIssuingSchema = z
  .strictObject({
    state: z.enum(['issuing', 'issued', 'uploaded', 'waiting', 'failing', 'off']).meta({
      description:
        '`issuing`: under way; `issued`: there is one; `uploaded`: somebody’s own is used; `waiting`: for something that comes by itself, as the end of a limit; `failing`: it could not be had, and is tried again; `off`: no authority is asked.',
    }),
    message: z.string().meta({ description: 'What is so, why, and what comes next.' }),
    failedAttempts: count().meta({ description: 'How many have failed since one has not.' }),
    nextAttemptAt: time().optional().meta({ description: 'When it is tried again by itself.' }),
    renewAt: time().optional().meta({ description: 'When it is renewed.' }),
    lastError: z
      .strictObject({
        kind: z
          .enum([
            'pointing',
            'caa',
            'dns_provider',
            'rate_limited',
            'authority',
            'refused',
            'account',
            'order',
            'internal',
          ])
          .meta({
            description:
              '`pointing`: the hostname does not lead here; `caa`: DNS forbids the authority; `dns_provider`: the DNS provider, or what was written there; `rate_limited`: a limit of the authority; `authority`: it does not answer, or has trouble of its own; `refused`: it does not issue for this hostname; `account`: it does not take the account; `order`: the order was of no use any more; `internal`: a part of this cluster.',
          }),
        message: z.string(),
        at: time(),
      })
      .optional()
      .meta({ description: 'Of the last attempt that has failed.' }),
    updatedAt: time(),
  })
  .meta({ description: 'How issuing stands, of a public hostname that a microservice has.' });

export const certificateSchema = z
  .strictObject({
    hostname: z.string().meta({ description: 'What it is filed under.', example: 'www.example.com' }),
    state: z
      .enum([
        'valid',
        'expiring',
        'expired',
        'not_yet_valid',
        'covered',
        'issuing',
        'waiting',
        'failing',
        'off',
      ])
      .meta({
        description:
          '`expiring`: it ends soon, and should have been renewed by now. Where there is none: `covered`: one for other hostnames that was uploaded is good for this one; the others as in `issuing`.',
      }),
    message: z.string().meta({ description: 'The same in words, with what to do.' }),
    hostnames: z
      .array(z.string())
      .meta({ description: 'Everything it is valid for; empty where there is none.' }),
    source: z.enum(['internal', 'acme', 'uploaded']).optional().meta({
      description:
        'Who vouches: the cluster’s own authority for private hostnames, a public authority, or whoever uploaded it. This and what follows is left out where there is none.',
    }),
    issuer: z.string().optional().meta({ description: 'Name of the issuer.' }),
    directory: z.string().optional().meta({ description: 'The ACME directory that it is from.' }),
    validFrom: time().optional(),
    validUntil: time().optional(),
    fingerprint: z.string().optional().meta({ description: 'SHA-256 of the certificate, in hex.' }),
    updatedAt: time().optional().meta({ description: 'When it was kept.' }),
    issuing: certificateIssuingSchema.optional(),
  })
  .meta({ description: 'The certificate of a hostname, without its private key, and how it is come by.' });

export const certificateListSchema = z.strictObject({ items: z.array(certificateSchema) });

export const authoritySchema = z
  .strictObject({
    certificate: z
      .string()
      .meta({ description: 'The root, in PEM: what machines and browsers have to trust.' }),
    fingerprint: z.string().meta({ description: 'SHA-256 of it, in hex.' }),
    subject: z.string().meta({ description: 'What it is called in lists of authorities.' }),
    validUntil: time(),
  })
  .meta({ description: 'The cluster’s own authority for private hostnames, like hello.localhost.' });

// ---- what a request may hold ----

export const scaleRequestSchema = z
  .strictObject({ scale: scaleSchema })
  .meta({ description: 'How many replicas there should be.' });

/** JSON merge patch (RFC 7396): what a patched specification has to be like is checked when it is merged. */
export const patchRequestSchema = z
  .strictObject({
    name: microserviceNameSchema.optional(),
    scale: scaleSchema.nullable().optional(),
    containers: z.record(z.string(), z.union([z.record(z.string(), z.unknown()), z.null()])).optional(),
    restart: z.record(z.string(), z.unknown()).nullable().optional(),
    update: z.record(z.string(), z.unknown()).nullable().optional(),
    constraints: z.record(z.string(), z.string().nullable()).nullable().optional(),
    hostNetwork: z.boolean().nullable().optional(),
    near: z.array(z.unknown()).nullable().optional(),
    apart: z.array(z.unknown()).nullable().optional(),
    daemon: z.boolean().nullable().optional(),
    rebalance: z.boolean().nullable().optional(),
    exclusive: z.boolean().nullable().optional(),
  })
  .meta({
    description:
      'A JSON merge patch (RFC 7396) of the specification: what is named is replaced, null takes away, the rest stays. `{"scale": 3}` only scales.',
    example: { scale: 3 },
  });

export const rollbackRequestSchema = z
  .strictObject({ toRelease: z.int().min(1).optional() })
  .meta({ description: 'Which release to go back to; the newest healthy one before when left out.' });

export const steerRequestSchema = z
  .strictObject({
    reason: z
      .string()
      .min(1)
      .max(500)
      .optional()
      .meta({ description: 'Why; the operation and an event say it.' }),
  })
  .meta({ description: 'What somebody wants of the release that is under way.' });

export const joinTokenRequestSchema = z
  .strictObject({
    uses: z
      .int()
      .min(1)
      .max(1_000)
      .optional()
      .meta({ description: 'How many nodes may join with it; 1 when left out.' }),
    expiresInSeconds: z
      .int()
      .min(1)
      .max(30 * 86_400)
      .optional()
      .meta({ description: 'For how long it may be used; an hour when left out.' }),
  })
  .meta({ description: 'What the token allows.' });

export const certificateRequestSchema = z
  .strictObject({
    certificate: z.string().meta({
      description: 'In PEM: the certificate first, then those that it was signed with.',
    }),
    privateKey: z.string().meta({ description: 'In PEM, not encrypted. No answer shows it again.' }),
  })
  .meta({ description: 'A certificate of your own.' });

export const emptyRequestSchema = z.strictObject({});

const maintenanceFields = {
  text: z
    .string()
    .min(1)
    .max(4_096)
    .refine((text) => !text.includes('\0'), { message: 'must not contain a NUL character' })
    .meta({ description: 'What is answered meanwhile.', example: 'Back at noon.' }),
  retryAfterSeconds: z.int().min(1).max(604_800).meta({ description: 'When clients may ask again.' }),
  allow: addressesSchema.meta({ description: 'Addresses and blocks that get through all the same.' }),
};

export const maintenanceRequestSchema = z
  .strictObject({
    text: maintenanceFields.text.optional(),
    retryAfterSeconds: maintenanceFields.retryAfterSeconds.optional(),
    allow: maintenanceFields.allow.optional(),
  })
  .meta({ description: 'All of it may be left out.' });

export const maintenanceSchema = z
  .strictObject({
    microservice: z.string(),
    on: z.boolean(),
    text: z.string().optional(),
    retryAfterSeconds: z.int().optional(),
    allow: z.array(z.string()).optional(),
    behind: z.array(z.string()).optional().meta({
      description:
        'Nodes that are up and whose ingress has not confirmed within 5 seconds that it goes by it; left out where all have.',
    }),
  })
  .meta({ description: 'Whether the hostnames of a microservice answer that it is under maintenance.' });

export type ProblemBody = z.infer<typeof problemSchema>;
export type OperationView = z.infer<typeof operationSchema>;
export type ReplicaView = z.infer<typeof replicaSchema>;
export type MicroserviceView = z.infer<typeof microserviceSchema>;
export type ReleaseView = z.infer<typeof releaseSchema>;
export type PlacementView = z.infer<typeof placementSchema>;
export type NodeView = z.infer<typeof nodeSchema>;
export type MaintenanceView = z.infer<typeof maintenanceSchema>;
export type RemovedNodeView = z.infer<typeof removedNodeSchema>;
export type EventView = z.infer<typeof eventSchema>;
export type JoinTokenView = z.infer<typeof joinTokenSchema>;
export type MadeJoinTokenView = z.infer<typeof madeJoinTokenSchema>;
export type CertificateView = z.infer<typeof certificateSchema>;
export type AuthorityView = z.infer<typeof authoritySchema>;
export type LogLineView = z.infer<typeof logLineSchema>;
