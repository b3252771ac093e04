/**
 * Plans for two releases beside each other: what takes over, and what it takes over from.
 *
 * Invariants: replicas of the release beside are kept at their scale, whatever becomes of the other one: none of them
 * stops before what is missing of them has started; of no release more are stopped than there are too many; replicas of
 * any third release go once the two have what they need to go by; pure, as computePlan is.
 */

import { groupBy } from './group-by';
import {
  isOfRelease,
  type ObservedReplica,
  type Phase,
  type Plan,
  type PlanRequest,
  type Snapshot,
} from './model';
import { computePlan } from './plan';
import { byId } from './reconcile';
import type { ReleaseSpec } from './spec/schema';

type Beside = NonNullable<PlanRequest['beside']>;

/** Moves for balance wait until there is one release again. */
const withoutMoves = (spec: ReleaseSpec): ReleaseSpec => ({ ...spec, rebalance: false });

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** The nodes as they are once the replicas that go have gone, and those of a plan have started. */
const withAccount = (
  snapshot: Snapshot,
  gone: readonly ObservedReplica[],
  { phases }: Plan,
  { containers }: ReleaseSpec,
): Snapshot => {
  const known = new Set(snapshot.replicas.map(({ id }) => id));
  const started = phases
    .flatMap(({ steps }) => steps)
    .filter((step) => step.kind === 'start' && !known.has(step.replicaId));
  const goneOn = groupBy(gone, ({ nodeId }) => nodeId);
  const cpus = sum(containers.map(({ cpusReserved }) => cpusReserved));
  const memory = sum(containers.map(({ memoryReservedBytes }) => memoryReservedBytes));
  return {
    ...snapshot,
    nodes: snapshot.nodes.map((node) => {
      const left = goneOn.get(node.id) ?? [];
      const added = started.filter(({ nodeId }) => nodeId === node.id).length;
      if (left.length === 0 && added === 0) return node;
      const { cpusReserved, memoryReservedBytes, replicaCount } = node;
      return {
        ...node,
        cpusReserved: Math.max(
          0,
          cpusReserved + added * cpus - sum(left.map((replica) => replica.cpusReserved)),
        ),
        memoryReservedBytes: Math.max(
          0,
          memoryReservedBytes + added * memory - sum(left.map((replica) => replica.memoryReservedBytes)),
        ),
        replicaCount: Math.max(0, replicaCount + added - left.length),
      };
    }),
  };
};

const stopPhase = (replicas: readonly ObservedReplica[]): Phase => ({
  kind: 'stop',
  steps: [...replicas]
    .sort(byId)
    .map(({ id, nodeId }) => ({ kind: 'stop', nodeId, replicaId: id, reason: 'outdated' })),
});

/** Takes the stops of what is too many out of a plan. */
const withoutSurplus = (plan: Plan): { readonly phases: readonly Phase[]; readonly surplus: Phase } => {
  const isSurplus = (step: Phase['steps'][number]) =>
    step.kind === 'stop' && (step.reason === 'surplus' || step.reason === 'scaled_down');
  return {
    phases: plan.phases.map(({ kind, steps }) => ({ kind, steps: steps.filter((step) => !isSurplus(step)) })),
    surplus: {
      kind: 'stop',
      steps: plan.phases.flatMap(({ steps }) =>
        steps.filter(isSurplus).map((step) => ({ ...step, reason: 'outdated' as const })),
      ),
    },
  };
};

const planBeside = (request: PlanRequest, beside: Beside, snapshot: Snapshot): Plan => {
  const { beside: _two, isHeld, ...rest } = request;
  const { desired } = request;
  const isNew = (replica: ObservedReplica) => isOfRelease(replica, desired.release);
  const isOld = (replica: ObservedReplica) => isOfRelease(replica, beside.release);
  const up = new Set(snapshot.nodes.filter((node) => node.up).map(({ id }) => id));
  const others = snapshot.replicas.filter(
    (replica) => !isNew(replica) && !isOld(replica) && up.has(replica.nodeId),
  );
  const standing = snapshot.replicas.filter(
    (replica) => isNew(replica) && up.has(replica.nodeId) && replica.state !== 'broken',
  ).length;
  const newScale = isHeld === true ? Math.min(desired.scale, standing) : desired.scale;
  const oldScale = beside.isShared === true ? Math.max(0, beside.scale - newScale) : beside.scale;

  const oldRequest: PlanRequest = {
    ...rest,
    kind: 'reschedule',
    seed: `${request.seed}/beside`,
    desired: {
      ...desired,
      release: { ...beside.release, spec: withoutMoves(beside.release.spec) },
      scale: oldScale,
    },
  };
  const old = computePlan(oldRequest, { ...snapshot, replicas: snapshot.replicas.filter(isOld) });

  const account = withAccount(snapshot, others, old, beside.release.spec);
  const newRequest: PlanRequest = {
    ...rest,
    kind: isHeld === true ? 'reschedule' : request.kind,
    desired: {
      ...desired,
      release: { ...desired.release, spec: withoutMoves(desired.release.spec) },
      scale: newScale,
    },
  };
  const fresh = computePlan(newRequest, { ...account, replicas: snapshot.replicas.filter(isNew) });

  const oldPart = withoutSurplus(old);
  const newPart = withoutSurplus(fresh);
  const phases = [
    ...oldPart.phases,
    stopPhase(others),
    ...newPart.phases,
    { kind: 'stop' as const, steps: [...newPart.surplus.steps, ...oldPart.surplus.steps] },
  ].filter(({ steps }) => steps.length > 0);
  return {
    phases,
    unplaced: old.unplaced + fresh.unplaced,
    rejections: fresh.unplaced > 0 ? fresh.rejections : old.rejections,
    converged: old.converged && fresh.converged && others.length === 0,
  };
};

/**
 * @param request what is desired, maybe with a release beside it
 * @param snapshot what is observed
 */
export const planFor = (request: PlanRequest, snapshot: Snapshot): Plan =>
  request.beside === undefined
    ? computePlan(request, snapshot)
    : planBeside(request, request.beside, snapshot);
