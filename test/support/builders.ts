/**
 * Builders of domain values for tests: each names what matters to the test, the rest is ordinary.
 */

import {
  microserviceId,
  type ObservedReplica,
  type Plan,
  type PlanRequest,
  type Release,
  type Snapshot,
  type SnapshotNode,
} from '../../domain/model';
import { parseMicroserviceSpec } from '../../domain/spec/parse';
import type { RawMicroserviceSpec, ReleaseSpec } from '../../domain/spec/schema';

export const GB = 1_000_000_000;
export const MB = 1_000_000;
/** 2026-01-01T00:00:00Z */
export const NOW_MS = 1_767_225_600_000;

/** A parsed release; `containers` may be left out when their content does not matter. */
export const buildReleaseSpec = (raw: Partial<RawMicroserviceSpec> = {}): ReleaseSpec => {
  const document = { name: 'web', containers: { app: { image: 'nginx:1.27', ports: [80] } }, ...raw };
  const outcome = parseMicroserviceSpec(document, { allowHostAccess: true });
  if (outcome.kind === 'invalid') throw new Error(JSON.stringify(outcome.problems));
  return outcome.spec.release;
};

export const buildRelease = (number = 1, raw: Partial<RawMicroserviceSpec> = {}): Release => ({
  number,
  spec: buildReleaseSpec(raw),
  createdAtMs: NOW_MS,
});

export const buildNode = (id: string, overrides: Partial<SnapshotNode> = {}): SnapshotNode => ({
  id,
  address: '10.0.0.1',
  architecture: 'amd64',
  dockerVersion: '27.0.0',
  capacity: { cpus: 4, memoryBytes: 8 * GB, diskBytes: 100 * GB },
  cpuPercent: 10,
  memoryAvailableBytes: 6 * GB,
  diskFreeBytes: 50 * GB,
  health: 'healthy',
  reasons: [],
  images: ['nginx:1.27'],
  labels: {},
  updatedAtMs: NOW_MS,
  up: true,
  availability: 'active',
  microservices: {},
  hostPorts: {},
  movableReplicas: 0,
  cpusReserved: 0,
  memoryReservedBytes: 0,
  replicaCount: 0,
  ...overrides,
});

export const buildReplica = (
  id: string,
  nodeId: string,
  overrides: Partial<ObservedReplica> = {},
): ObservedReplica => ({
  project: 'default',
  name: 'web',
  id,
  release: 1,
  releasedAtMs: NOW_MS,
  nodeId,
  operation: 'deploy.default.web.old',
  state: 'running',
  containers: [],
  ports: [],
  restartCount: 0,
  cpusReserved: 0,
  memoryReservedBytes: 0,
  createdAtMs: NOW_MS - 60_000,
  updatedAtMs: NOW_MS,
  ...overrides,
});

/** The node with replicas more, or fewer, as far as their number goes. */
const withCounts = (node: SnapshotNode, replicas: readonly ObservedReplica[], sign: 1 | -1): SnapshotNode => {
  const microservices: Record<string, number> = { ...node.microservices };
  for (const replica of replicas) {
    const id = microserviceId(replica);
    microservices[id] = (microservices[id] ?? 0) + sign;
    if (microservices[id] === 0) delete microservices[id];
  }
  const movable = replicas.filter(({ daemon, state }) => daemon !== true && state !== 'exited').length;
  return {
    ...node,
    microservices,
    replicaCount: node.replicaCount + sign * replicas.length,
    movableReplicas: node.movableReplicas + sign * movable,
  };
};

/** `replicas` are counted into their nodes as a real snapshot counts them. */
export const buildSnapshot = (
  nodes: readonly SnapshotNode[],
  replicas: readonly ObservedReplica[] = [],
): Snapshot => ({
  nodes: nodes.map((node) => {
    const own = replicas.filter(({ nodeId }) => nodeId === node.id);
    return {
      ...withCounts(node, own, 1),
      cpusReserved: own.reduce((sum, { cpusReserved }) => sum + cpusReserved, node.cpusReserved),
      memoryReservedBytes: own.reduce(
        (sum, { memoryReservedBytes }) => sum + memoryReservedBytes,
        node.memoryReservedBytes,
      ),
    };
  }),
  replicas,
});

interface RequestOverrides extends Partial<Omit<PlanRequest, 'desired'>> {
  readonly scale?: number;
  readonly release?: Release;
}

export const buildRequest = ({ scale = 1, release, ...rest }: RequestOverrides = {}): PlanRequest => ({
  operation: 'deploy.default.web.now',
  kind: 'deploy',
  desired: { project: 'default', name: 'web', release: release ?? buildRelease(), scale },
  refusals: {},
  attempt: 1,
  seed: 'seed',
  nowMs: NOW_MS,
  ...rest,
});

/**
 * What the world looks like after the first `phaseCount` phases of a plan have succeeded: started replicas run,
 * stopped ones are gone, pulled images are there.
 */
export const applyPlan = (
  plan: Plan,
  request: PlanRequest,
  snapshot: Snapshot,
  phaseCount = plan.phases.length,
): Snapshot => {
  const { release, project, name } = request.desired;
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const replicas = new Map(snapshot.replicas.map((replica) => [replica.id, replica]));
  const nodes = new Map(snapshot.nodes.map((node) => [node.id, node]));
  const account = (replica: ObservedReplica, sign: 1 | -1) => {
    const node = nodes.get(replica.nodeId);
    if (node === undefined) throw new Error(`there is no node ${replica.nodeId}`);
    nodes.set(node.id, {
      ...withCounts(node, [replica], sign),
      cpusReserved: node.cpusReserved + sign * replica.cpusReserved,
      memoryReservedBytes: node.memoryReservedBytes + sign * replica.memoryReservedBytes,
    });
  };
  for (const step of plan.phases.slice(0, phaseCount).flatMap(({ steps }) => steps)) {
    switch (step.kind) {
      case 'pull': {
        const node = nodes.get(step.nodeId);
        if (node === undefined) throw new Error(`there is no node ${step.nodeId}`);
        nodes.set(node.id, { ...node, images: [...new Set([...node.images, ...step.images])] });
        break;
      }
      case 'start': {
        const existing = replicas.get(step.replicaId);
        if (existing !== undefined) {
          replicas.set(existing.id, { ...existing, state: 'running' });
          break;
        }
        const { containers } = release.spec;
        const replica = buildReplica(step.replicaId, step.nodeId, {
          project,
          name,
          release: step.release,
          operation: request.operation,
          ...(release.spec.daemon === true ? { daemon: true } : {}),
          createdAtMs: request.nowMs,
          cpusReserved: sum(containers.map(({ cpusReserved }) => cpusReserved)),
          memoryReservedBytes: sum(containers.map(({ memoryReservedBytes }) => memoryReservedBytes)),
        });
        replicas.set(replica.id, replica);
        account(replica, 1);
        break;
      }
      case 'stop': {
        const replica = replicas.get(step.replicaId);
        if (replica === undefined) throw new Error(`there is no replica ${step.replicaId}`);
        replicas.delete(replica.id);
        account(replica, -1);
        break;
      }
    }
  }
  return { nodes: [...nodes.values()], replicas: [...replicas.values()] };
};
