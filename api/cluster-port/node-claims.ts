/**
 * What a node may say of itself and of its replicas, beyond the shape of a document: everybody who plans, shows or
 * stores goes by it. Pure.
 *
 * Invariants: every number is one that a machine can have, and every text and list has an end; of a fixed set of words
 * nothing else is taken; what the cluster says of nodes no node says of itself; what is not named here is left alone, as
 * later versions may say more.
 */

import { BlockList, isIP } from 'node:net';

import { z } from 'zod';

import { MAX_AVAILABLE_BUILDS, MAX_MISSING_BUILDS, MAX_NODE_IMAGES } from '../../contracts/node-documents';
import { ContainerOsError } from '../../domain/errors';
import { LATENCY_BUCKETS } from '../../domain/judgement';
import type { ClusterEvent, IngressState, ObservedNode, ReplicaState } from '../../domain/model';

/** More than any machine has; disks that are in a network say up to 2^63. */
const MAX_CPUS = 65_536;
const MAX_BYTES = 2 ** 64;
const MAX_COUNT = 1_000_000_000;
/** The last that a date can hold. */
const MAX_TIME_MS = 8.64e15;

const text = (characters: number) => z.string().max(characters);
const share = z.number().min(0).max(MAX_CPUS);
const bytes = z.number().min(0).max(MAX_BYTES);
const count = z.int().min(0).max(MAX_COUNT);
const image = text(1_024);

/** As the command line takes labels. */
const MAX_LABEL_CHARACTERS = 256;
const labels = z
  .record(text(MAX_LABEL_CHARACTERS), text(MAX_LABEL_CHARACTERS))
  .refine((all) => Object.keys(all).length <= 256, { message: 'may have 256 keys at most' });

const node = z.looseObject({
  address: z.string().min(1).max(255),
  architecture: text(64),
  dockerVersion: text(128),
  containerosVersion: text(128).optional(),
  // What a share of it is, is a division.
  capacity: z.looseObject({ cpus: share.gt(0), memoryBytes: bytes, diskBytes: bytes }),
  cpuPercent: share,
  memoryAvailableBytes: bytes,
  diskFreeBytes: bytes,
  health: z.enum(['healthy', 'degraded']),
  reasons: z.array(text(4_096)).max(32),
  images: z.array(image).max(MAX_NODE_IMAGES),
  missingBuilds: z
    .array(
      z.looseObject({
        image,
        available: z.array(text(64)).max(MAX_AVAILABLE_BUILDS),
        seenAtMs: z.number().min(0).max(MAX_TIME_MS),
      }),
    )
    .max(MAX_MISSING_BUILDS)
    .optional(),
  engineLostAtMs: z.number().min(0).max(MAX_TIME_MS).optional(),
  publicPortTroubles: z
    .array(
      z.looseObject({
        port: z.int().min(1).max(65_535),
        protocol: z.enum(['tcp', 'udp']),
        reason: text(1_024),
      }),
    )
    .max(1_000)
    .optional(),
  labels,
}) satisfies z.ZodType<
  Partial<
    Omit<ObservedNode, 'containerosVersion' | 'missingBuilds' | 'engineLostAtMs' | 'publicPortTroubles'>
  >
>;

const STATES: Readonly<Record<ReplicaState, true>> = {
  starting: true,
  running: true,
  unhealthy: true,
  restarting: true,
  crash_looping: true,
  paused: true,
  stopping: true,
  exited: true,
  broken: true,
};

/** What is of another machine for each that goes there, or of many: every node leads to the addresses of replicas. */
const OF_NO_ONE_MACHINE = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  // Of many, and of all: what a public UDP port leads there would go to each of them.
  ['224.0.0.0', 4],
  ['255.255.255.255', 32],
] as const) {
  OF_NO_ONE_MACHINE.addSubnet(network, prefix, 'ipv4');
}
OF_NO_ONE_MACHINE.addSubnet('::', 127, 'ipv6');
OF_NO_ONE_MACHINE.addSubnet('fe80::', 10, 'ipv6');
OF_NO_ONE_MACHINE.addSubnet('ff00::', 8, 'ipv6');

const reachableAddress = text(255)
  .refine((address) => isIP(address) !== 0, { message: 'is not an IP address' })
  .refine((address) => !OF_NO_ONE_MACHINE.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'), {
    message: 'is not the address of one machine',
  });

const replica = z.looseObject({
  release: count,
  operation: text(512),
  state: z.enum(Object.keys(STATES) as ReplicaState[]),
  reason: text(16_384).nullish(),
  containers: z
    .array(
      z.looseObject({
        name: text(256),
        containerId: text(128),
        image,
        imageId: text(256),
        restartCount: count,
        exitCode: z.int().min(-MAX_COUNT).max(MAX_COUNT).nullish(),
      }),
    )
    .max(1_000),
  ports: z
    .array(
      z.looseObject({
        container: text(256),
        port: z.int().min(1).max(65_535),
        protocol: z.enum(['tcp', 'udp']),
        address: reachableAddress,
        hostPort: z.int().min(1).max(65_535),
        serviceId: text(256),
        hostnames: z.array(text(255)).max(1_000),
        publicPorts: z.array(z.int().min(1).max(65_535)).max(100).optional(),
        proxyProtocol: z.enum(['v1', 'v2']).optional(),
      }),
    )
    .max(10_000),
  restartCount: count,
  cpusReserved: share,
  memoryReservedBytes: bytes,
});

/** Told by the control plane, which nobody may pose as. */
const TOLD_OF_NODES: ReadonlySet<string> = new Set([
  ...['node.joined', 'node.join_refused', 'node.refused', 'node.removed', 'node.drained'],
  ...['node.lost', 'node.returned', 'node.unstable', 'node.stable'],
]);

const event = z.looseObject({
  level: z.enum(['info', 'warning', 'error']) satisfies z.ZodType<ClusterEvent['level']>,
  type: z
    .string()
    .max(64)
    .regex(/^[a-z]+(?:[._][a-z]+){0,8}$/)
    .refine((type) => !TOLD_OF_NODES.has(type), { message: 'is told by the cluster, and not by a node' }),
});

const ingress = z.looseObject({
  index: z.int().min(0),
  trafficIndex: z.int().min(0).nullish(),
  maintenanceIndex: z.int().min(0).nullish(),
  hostnamesIndex: z.int().min(0).nullish(),
  routesIndex: z.int().min(0).nullish(),
  publicPorts: z
    .looseObject({
      index: z.int().min(0),
      trafficIndex: z.int().min(0),
      hostnamesIndex: z.int().min(0),
    })
    .nullish(),
}) satisfies z.ZodType<Pick<IngressState, 'index'>>;

/** Of releases that take over at the same time: more than anybody has, and few enough for one document. */
const MAX_SPLITS = 500;
const requestCounts = z.looseObject({
  splits: z
    .array(
      z.looseObject({
        operation: text(512),
        stage: count,
        releases: z
          .array(
            z.looseObject({
              release: count,
              requests: count,
              errors: count,
              latencies: z.array(count).max(LATENCY_BUCKETS),
            }),
          )
          .max(16),
      }),
    )
    .max(MAX_SPLITS),
});

const CLAIMS = { nodes: node, replicas: replica, events: event, ingresses: ingress, requestCounts };

/**
 * @param document of the right shape
 * @throws {ContainerOsError} `invalid`
 */
export const assertPossible = (kind: keyof typeof CLAIMS, key: string, document: unknown): void => {
  const parsed = CLAIMS[kind].safeParse(document);
  if (parsed.success) return;
  const [issue] = parsed.error.issues;
  throw new ContainerOsError(
    'invalid',
    `The write of ${key} is refused: /${(issue?.path ?? []).map(String).join('/').slice(0, 200)}: ${issue?.message ?? 'is not possible'}.`,
  );
};
