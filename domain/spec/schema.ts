/**
 * The specification of a microservice: the schema that users write (raw), and the shape that the rest of
 * ContainerOS works with (normalised, every default filled in, every list in a stable order).
 *
 * Invariants: only `parseMicroserviceSpec` makes a normalised specification; unknown keys are errors, never dropped.
 */

import { z } from 'zod';

import type { JudgeSpec } from '../judgement';
import { whyNoHostname } from './hostname';
import type { ProxyProtocol } from '../ingress/public-ports';
import type { RouteSpec } from '../ingress/route-options';

import { createRouteSchema } from './route-schema';

export const DEFAULT_CPUS = 1;
export const DEFAULT_MEMORY_LIMIT_BYTES = 1_000_000_000;
export const MAX_SCALE = 10_000;
const MIN_MEMORY_LIMIT_BYTES = 6 * 1024 * 1024; // Docker refuses less

const NAME = /^[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]$/;
const CONTAINER_NAME = /^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/;
const ENV_KEY = /^[A-Za-z_][A-Za-z0-9_.-]*$/;
const ENV_KEY_WORDS = 'must begin with a letter or _, and go on with letters, digits, _, . and -';
// The grammar of the distribution project's reference package, without its captures.
const IMAGE =
  /^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$/;
const HOSTNAME =
  /^(?=.{1,253}$)(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;
const ABSOLUTE_PATH = /^\/[^\0]*$/;
const PORT_KEY = /^([1-9][0-9]{0,4})$/;

const noNul = (text: string) => !text.includes('\0');
const text = (max: number) =>
  z.string().max(max).refine(noNul, { message: 'must not contain a NUL character' });

export const microserviceNameSchema = z
  .string()
  .min(3, { message: 'must have three characters at least' })
  .max(63, { message: 'must have 63 characters at most, as a DNS label' })
  .regex(NAME, {
    message: 'must be a letter, then letters, digits and hyphens, and must not end with a hyphen',
  })
  .meta({ description: 'A DNS label: a letter, then letters, digits and hyphens.', example: 'hello' });

const portNumberSchema = z
  .int()
  .min(1, { message: 'must be a port from 1 to 65535' })
  .max(65535, { message: 'must be a port from 1 to 65535' });

const hostnameSchema = z
  .string()
  .toLowerCase()
  .regex(HOSTNAME, {
    abort: true,
    error: ({ input }) => whyNoHostname(String(input)) ?? 'must be a hostname',
  })
  .refine((hostname) => whyNoHostname(hostname) === undefined, {
    error: ({ input }) => whyNoHostname(String(input)) ?? 'must be a hostname',
  });

const envSchema = z
  .union([
    z.array(
      text(131_072).regex(/^[A-Za-z_][A-Za-z0-9_.-]*=/, {
        message: `must have the form KEY=value, and KEY ${ENV_KEY_WORDS}`,
      }),
    ),
    z.record(
      z.string().regex(ENV_KEY, { message: ENV_KEY_WORDS }),
      z.union([text(131_072), z.number(), z.boolean()]),
    ),
  ])
  .meta({ description: 'Environment: a list of KEY=value, or a map.' });

const portSchema = z
  .union([
    portNumberSchema,
    z
      .string()
      .regex(/^[1-9][0-9]{0,4}(\/(tcp|udp))?$/, { message: 'must be a port like 5432, 5432/tcp or 53/udp' }),
  ])
  .meta({ description: 'A container port: 5432, "5432/tcp" or "53/udp".' });

const routeSchema = createRouteSchema(hostnameSchema);

const httpPortsSchema = z
  .record(
    z.string().regex(PORT_KEY, { message: 'must be a port from 1 to 65535' }),
    z.union([
      hostnameSchema,
      routeSchema,
      z
        .array(z.union([hostnameSchema, routeSchema]))
        .min(1)
        .max(50),
    ]),
  )
  .meta({
    description:
      'HTTP ports of the container, each with the hostname or hostnames that reach it, or with routes that have options.',
    example: { '80': 'hello.localhost' },
  });

const publicPortListSchema = z.array(portNumberSchema).min(1).max(10);

const publicPortsSchema = z
  .record(
    z.string().regex(/^[1-9][0-9]{0,4}(\/(tcp|udp))?$/, {
      message: 'must be a port of the container like 5432, 5432/tcp or 53/udp',
    }),
    z.union([
      portNumberSchema,
      publicPortListSchema,
      z.strictObject({
        port: z.union([portNumberSchema, publicPortListSchema]),
        proxyProtocol: z.enum(['v1', 'v2']).optional(),
      }),
    ]),
  )
  .meta({
    description:
      'TCP and UDP ports of the container, each with the port of every node that leads to it, or with several.',
    example: { '5432': 5432, '53/udp': 53 },
  });

const volumeSchema = z.union([
  z.strictObject({
    name: z.string().max(63).regex(CONTAINER_NAME, { message: 'must be a DNS label' }),
    path: z.string().max(4096).regex(ABSOLUTE_PATH, { message: 'must be an absolute path' }),
    readOnly: z.boolean().optional(),
  }),
  z.strictObject({
    tmpfs: z.literal(true),
    path: z.string().max(4096).regex(ABSOLUTE_PATH, { message: 'must be an absolute path' }),
    sizeBytes: z.int().min(4096).optional(),
  }),
  z.strictObject({
    hostPath: z.string().max(4096).regex(ABSOLUTE_PATH, { message: 'must be an absolute path' }),
    path: z.string().max(4096).regex(ABSOLUTE_PATH, { message: 'must be an absolute path' }),
    readOnly: z.boolean().optional(),
  }),
]);

const checkTiming = {
  intervalSeconds: z.number().min(1).max(3600).optional(),
  timeoutSeconds: z.number().min(0.1).max(600).optional(),
  /** Failures in a row before the replica counts as unhealthy. */
  failures: z.int().min(1).max(100).optional(),
};

const checkSchema = z.union([
  z.strictObject({
    http: z.strictObject({
      port: portNumberSchema,
      path: z
        .string()
        .max(2048)
        .regex(/^\/[\x21-\x7e]*$/, {
          message: 'must be a path that begins with / and has no spaces; encode them as %20',
        })
        .optional(),
    }),
    ...checkTiming,
  }),
  z.strictObject({ tcp: z.strictObject({ port: portNumberSchema }), ...checkTiming }),
  z.strictObject({ command: z.array(text(4096)).min(1).max(100), ...checkTiming }),
]);

const capabilitySchema = z
  .string()
  .max(40)
  .regex(/^[A-Z_]+$/, {
    message: 'must be a capability in capitals, like NET_RAW, or ALL',
  });

export const containerSchema = z.strictObject({
  image: z.string().max(1024).regex(IMAGE, {
    message: 'must be an image reference like nginx:1.27 or registry.example.com/team/app:v1',
  }),
  pull: z.enum(['always', 'missing', 'never']).optional(),
  command: z.array(text(32_768)).min(1).max(1000).optional(),
  args: z.array(text(32_768)).max(1000).optional(),
  env: envSchema.optional(),
  ports: z.array(portSchema).max(100).optional(),
  httpPorts: httpPortsSchema.optional(),
  publicPorts: publicPortsSchema.optional(),
  volumes: z.array(volumeSchema).max(100).optional(),
  cpus: z.number().min(0.01).max(1024).optional(),
  memLimit: z
    .int()
    .min(MIN_MEMORY_LIMIT_BYTES, { message: 'must be 6291456 bytes (6 MiB) at least' })
    .optional(),
  reserve: z
    .strictObject({
      cpus: z.number().min(0).max(1024).optional(),
      memory: z.int().min(0).optional(),
    })
    .optional(),
  pidsLimit: z.int().min(1).max(4_194_304).optional(),
  user: text(256)
    .regex(/^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?$/, { message: 'must be a user or user:group' })
    .optional(),
  workingDirectory: z
    .string()
    .max(4096)
    .regex(ABSOLUTE_PATH, { message: 'must be an absolute path' })
    .optional(),
  readOnly: z.boolean().optional(),
  dropCapabilities: z.array(capabilitySchema).max(64).optional(),
  addCapabilities: z.array(capabilitySchema).max(64).optional(),
  privileged: z.boolean().optional(),
  labels: z
    .record(
      z.string().min(1).max(256).refine(noNul, { message: 'must not contain a NUL character' }),
      text(4096),
    )
    .optional(),
  check: checkSchema.optional(),
  startupGraceSeconds: z.number().min(1).max(3600).optional(),
  stopSignal: z
    .string()
    .regex(/^SIG[A-Z0-9+-]{1,12}$/, { message: 'must be a signal like SIGTERM' })
    .optional(),
  stopGraceSeconds: z.number().min(0).max(3600).optional(),
});

const countOrPercentSchema = z.union([
  z.int().min(0).max(MAX_SCALE),
  z.string().regex(/^([0-9]|[1-9][0-9]|100)%$/, { message: 'must be a number or a percentage like 25%' }),
]);

const stepSchema = z.strictObject({
  weight: z.int().min(1).max(99),
  seconds: z.number().min(0).max(86_400),
});

const judgeSchema = z.strictObject({
  maxErrorPercent: z.number().min(0).max(100).optional(),
  maxLatencyFactor: z.union([z.literal(0), z.number().min(1).max(1_000)]).optional(),
  minRequests: z.int().min(1).max(1_000_000).optional(),
});

const affinitySchema = (description: string) =>
  z
    .array(
      z.union([
        microserviceNameSchema,
        z.strictObject({ microservice: microserviceNameSchema, required: z.boolean().optional() }),
      ]),
    )
    .max(20)
    .meta({ description, example: ['orders-db'] });

const specFields = {
  containers: z
    .record(z.string().max(63).regex(CONTAINER_NAME, { message: 'must be a DNS label' }), containerSchema)
    .refine((containers) => Object.keys(containers).length > 0, {
      message: 'must have one container at least',
    })
    .refine((containers) => Object.keys(containers).length <= 20, {
      message: 'must have 20 containers at most',
    }),
  restart: z
    .strictObject({
      policy: z.enum(['always', 'on-failure', 'never']).optional(),
      backoffSeconds: z.number().min(0.1).max(3600).optional(),
      maxBackoffSeconds: z.number().min(0.1).max(86_400).optional(),
    })
    .optional(),
  update: z
    .strictObject({
      strategy: z.enum(['rolling', 'recreate', 'blue-green', 'canary']).optional(),
      maxSurge: countOrPercentSchema.optional(),
      maxUnavailable: countOrPercentSchema.optional(),
      minHealthySeconds: z.number().min(0).max(3600).optional(),
      deadlineSeconds: z.number().min(1).max(86_400).optional(),
      keepOldSeconds: z.number().min(0).max(86_400).optional(),
      promote: z.enum(['automatic', 'manual']).optional(),
      steps: z.array(stepSchema).min(1).max(10).optional(),
      judge: z.union([z.literal(false), judgeSchema]).optional(),
    })
    .optional(),
  constraints: z.record(z.string().min(1).max(256), z.string().max(256)).optional().meta({
    description:
      'Labels that a node has to have, and what it has to be: `node.arch` (amd64, arm64, …) and `node.id`.',
  }),
  near: affinitySchema('Microservices of the same project that its replicas run beside.').optional(),
  apart: affinitySchema('Microservices of the same project that its replicas keep away from.').optional(),
  daemon: z
    .boolean()
    .optional()
    .meta({ description: 'One replica on every node that matches, also on those that join later.' }),
  rebalance: z
    .boolean()
    .optional()
    .meta({ description: 'Whether replicas move to a node that has joined or is back.' }),
  hostNetwork: z.boolean().optional(),
  exclusive: z.boolean().optional().meta({
    description: 'It never runs twice: its one replica runs only as long as its node holds a lease.',
  }),
};

export const scaleSchema = z
  .int({ message: 'must be a whole number' })
  .min(0, { message: 'must be 0 or more' })
  .max(MAX_SCALE, { message: `must be ${MAX_SCALE} at most` });

export const microserviceSpecSchema = z
  .strictObject({ name: microserviceNameSchema, scale: scaleSchema.optional(), ...specFields })
  .meta({ id: 'MicroserviceSpec' });

export type RawMicroserviceSpec = z.input<typeof microserviceSpecSchema>;
export type RawContainerSpec = z.input<typeof containerSchema>;

export interface PortSpec {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** Hostnames that the ingress routes to it without options. */
  readonly hostnames: readonly string[];
  /** What it routes to it with options; left out when there are none. */
  readonly routes?: readonly RouteSpec[];
  /** Ports of every node that lead to it, sorted; left out when there are none. */
  readonly publicPorts?: readonly number[];
  /** How it is told of clients that come by them; left out: it is not. */
  readonly proxyProtocol?: ProxyProtocol;
}

export type VolumeSpec =
  | { readonly kind: 'named'; readonly name: string; readonly path: string; readonly readOnly: boolean }
  | { readonly kind: 'tmpfs'; readonly path: string; readonly sizeBytes: number | null }
  | { readonly kind: 'host'; readonly hostPath: string; readonly path: string; readonly readOnly: boolean };

export interface CheckTiming {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly failures: number;
}

export type CheckSpec = CheckTiming &
  (
    | { readonly kind: 'http'; readonly port: number; readonly path: string }
    | { readonly kind: 'tcp'; readonly port: number }
    | { readonly kind: 'command'; readonly command: readonly string[] }
  );

export interface ContainerSpec {
  readonly name: string;
  readonly image: string;
  readonly pull: 'always' | 'missing' | 'never';
  /** Replaces the image's entrypoint. */
  readonly command: readonly string[] | null;
  /** Replaces the image's arguments. */
  readonly args: readonly string[] | null;
  /** `KEY=value`, in the order of the keys. */
  readonly env: readonly string[];
  readonly ports: readonly PortSpec[];
  readonly volumes: readonly VolumeSpec[];
  /** Limits, not reservations. */
  readonly cpus: number;
  readonly memoryLimitBytes: number;
  readonly cpusReserved: number;
  readonly memoryReservedBytes: number;
  readonly pidsLimit: number | null;
  readonly user: string | null;
  readonly workingDirectory: string | null;
  readonly readOnly: boolean;
  readonly dropCapabilities: readonly string[];
  readonly addCapabilities: readonly string[];
  readonly privileged: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** The check asked for, or a TCP check on each TCP port; empty: the container counts as healthy while it runs. */
  readonly checks: readonly CheckSpec[];
  /** How long after its start a container may fail its checks. */
  readonly startupGraceMs: number;
  readonly stopSignal: string | null;
  readonly stopGraceMs: number;
}

export interface RestartSpec {
  readonly policy: 'always' | 'on-failure' | 'never';
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
}

/** Absolute count, or a share of the scale in percent. */
export type CountOrPercent =
  { readonly kind: 'count'; readonly count: number } | { readonly kind: 'percent'; readonly percent: number };

/** So much of 100 requests goes to the new release for so long. */
export interface CanaryStep {
  readonly weight: number;
  readonly holdMs: number;
}

export interface UpdateSpec {
  readonly strategy: 'rolling' | 'recreate' | 'blue-green' | 'canary';
  readonly maxSurge: CountOrPercent;
  readonly maxUnavailable: CountOrPercent;
  /** How long a new replica has to stay healthy before it counts. */
  readonly minHealthyMs: number;
  // What follows is left out where it is the default (update-defaults.ts).
  /** How long the replicas may take to be healthy; left out: each step has its own limits. */
  readonly deadlineMs?: number;
  readonly keepOldMs?: number;
  /** Somebody has to say that the new release gets all requests. */
  readonly promote?: 'manual';
  readonly steps?: readonly CanaryStep[];
  readonly judge?: JudgeSpec | false;
}

/** Another microservice of the same project, in lower case. */
export interface AffinitySpec {
  readonly microservice: string;
  /** Whether a node that does not satisfy it is no option; otherwise it is only a worse one. */
  readonly required: boolean;
}

/** What a release holds: all of the specification but name and scale. Containers are in the order of their names. */
export interface ReleaseSpec {
  readonly containers: readonly ContainerSpec[];
  readonly restart: RestartSpec;
  readonly update: UpdateSpec;
  readonly constraints: Readonly<Record<string, string>>;
  readonly hostNetwork: boolean;
  // What follows is left out where it is the default, as in releases from before there was such a thing.
  readonly near?: readonly AffinitySpec[];
  readonly apart?: readonly AffinitySpec[];
  /** One replica on every node that matches, and no scale. */
  readonly daemon?: true;
  /** Replicas stay where they are when there is a node that has fewer. */
  readonly rebalance?: false;
  /** It never runs twice: a replica runs only as long as its node holds the lease of the microservice. */
  readonly exclusive?: true;
}

export interface MicroserviceSpec {
  readonly name: string;
  readonly scale: number;
  readonly release: ReleaseSpec;
}
