/**
 * Answers `?dryRun=true`: what a change would do now, as the planner plans it on what is observed, without doing it.
 *
 * Invariants: nothing is written anywhere; what the change itself would be refused for, it is refused for, in the same
 * words; what a node finds out only while it is at it (an image that is not there, no room after all) is not known.
 */

import { KV_PREFIX, hostnameKvKey } from '../contracts/kv';
import type { Preview, PreviewRequest } from '../contracts/workflows';
import { ContainerOsError } from '../domain/errors';
import { claimsTakenInWords } from '../domain/ingress/claim-words';
import { isHostnameClaim, publicPortOfClaim } from '../domain/ingress/public-ports';
import { claimsOfPort } from '../domain/ingress/route-options';
import { microserviceId, type MicroserviceKey, type Plan, type Release } from '../domain/model';
import { describePreview } from '../domain/plan';
import { planFor } from '../domain/plan-beside';
import { imageInWords, withoutDigests } from '../domain/release-images';
import { outlineOf, widestStageOf } from '../domain/release-stages';
import { diffReleases } from '../domain/spec/release-diff';
import type { DryRunView } from '../openapi/dry-run-schema';

import type { RouteDeps } from './api-deps';
import { sendJson, type Exchange } from './exchange';
import { microservicePath } from './views';

type Possible = Extract<Preview, { kind: 'possible' }>;

/** Hostnames, some with a path, and public ports. */
const claimsOf = (release: Release | undefined): readonly string[] =>
  [...new Set((release?.spec.containers ?? []).flatMap(({ ports }) => ports.flatMap(claimsOfPort)))].sort();

interface ClaimChange {
  readonly claim: string;
  readonly change: 'added' | 'removed' | 'moved';
  readonly from?: string;
}

/** @throws {ContainerOsError} `conflict` when somebody else has some of them, and they are not to be moved */
const claimChanges = async (
  { store }: RouteDeps,
  key: MicroserviceKey,
  { before, desired, operation }: Possible,
  moves: boolean,
): Promise<readonly ClaimChange[]> => {
  const held = claimsOf(before);
  const wanted = operation === 'remove' ? [] : claimsOf(desired.release);
  const owners = new Map(
    (await store.list<MicroserviceKey>(KV_PREFIX.hostnames)).map((entry) => [entry.key, entry.value]),
  );
  const changes: ClaimChange[] = [];
  for (const claim of wanted) {
    const owner = owners.get(hostnameKvKey(claim));
    const isOthers = owner !== undefined && microserviceId(owner) !== microserviceId(key);
    if (isOthers) changes.push({ claim, change: 'moved', from: owner.name });
    else if (!held.includes(claim)) changes.push({ claim, change: 'added' });
  }
  const taken = changes.flatMap(({ claim, from }) =>
    from === undefined ? [] : [{ hostname: claim, owner: from }],
  );
  if (taken.length > 0 && !moves) throw new ContainerOsError('conflict', claimsTakenInWords(taken));
  const gone = held.filter((claim) => !wanted.includes(claim));
  return [...changes, ...gone.map((claim) => ({ claim, change: 'removed' as const }))];
};

const hostnameChanges = (changes: readonly ClaimChange[]): DryRunView['hostnames'] =>
  changes
    .filter(({ claim }) => isHostnameClaim(claim))
    .map(({ claim, ...change }) => ({ hostname: claim, ...change }));

const publicPortChanges = (changes: readonly ClaimChange[]): DryRunView['publicPorts'] =>
  changes.flatMap(({ claim, ...change }) => {
    const port = publicPortOfClaim(claim);
    return port === undefined ? [] : [{ ...port, ...change }];
  });

const pullsOf = ({ phases }: Plan): DryRunView['pulls'] =>
  phases
    .flatMap(({ steps }) => steps)
    .flatMap((step) =>
      step.kind === 'pull' ? [{ node: step.nodeId, images: step.images.map(imageInWords) }] : [],
    );

/** A key that was used for a change tells nothing of what another one would do. */
const forLookingAt = <T extends PreviewRequest>(request: T): T => {
  const { idempotencyKey: _key, requestHash: _hash, ...change } = request.change;
  return { ...request, change };
};

/**
 * @throws {ContainerOsError} whatever the change would be refused with
 */
export const answerDryRun = async (
  deps: RouteDeps,
  exchange: Exchange,
  key: MicroserviceKey,
  request: PreviewRequest,
): Promise<void> => {
  const { readModel, changes, nowMs } = deps;
  readModel.assertLoaded();
  const moves = request.kind === 'apply' && request.change.movesHostnames === true;
  const preview = await changes.preview(key, forLookingAt(request), exchange.signal);
  if (preview.kind === 'refused') {
    throw new ContainerOsError(preview.code, preview.message, preview.problems);
  }
  const { desired, operation, before, created, takesOverFrom } = preview;
  const claims = await claimChanges(deps, key, preview, moves);
  const snapshot = readModel.snapshot(key);
  const plan = planFor(
    {
      operation: 'dry-run',
      kind: operation,
      desired: operation === 'remove' ? { ...desired, scale: 0 } : desired,
      ...(takesOverFrom === undefined ? {} : widestStageOf(desired, takesOverFrom)),
      refusals: {},
      attempt: 1,
      seed: 'dry-run',
      nowMs: nowMs(),
    },
    snapshot,
  );
  const isNewRelease = before?.number !== desired.release.number;
  const value: DryRunView = {
    dryRun: true,
    kind: operation,
    microservice: desired.name,
    created,
    release: desired.release.number,
    scale: operation === 'remove' ? 0 : desired.scale,
    changesNothing: plan.converged && !isNewRelease && operation !== 'remove',
    stages: takesOverFrom === undefined ? [] : [...outlineOf(desired, takesOverFrom)],
    plan: [...describePreview(plan, snapshot)],
    diff:
      before === undefined || !isNewRelease ? [] : [...diffReleases(before, withoutDigests(desired.release))],
    pulls: pullsOf(plan),
    unplaced: plan.unplaced,
    rejections: plan.rejections.map(({ nodeId, reason }) => ({ node: nodeId, reason })),
    hostnames: hostnameChanges(claims),
    publicPorts: publicPortChanges(claims),
    links: { microservice: microservicePath(desired) },
  };
  sendJson(exchange, 200, { value });
};
