/**
 * Where one more replica could go now, why there, and why it could not go elsewhere: what the planner would say,
 * without a plan. Pure.
 */

import { consequenceInWords, isUnstable } from '../flapping';
import type { MicroserviceKey, ObservedReplica, Snapshot, SnapshotNode } from '../model';
import type { ReleaseSpec } from '../spec/schema';
import { needsOf } from './needs';
import { createPlacer } from './placer';
import { enginelessNodes } from './snapshot';

export interface NodeVerdict {
  readonly nodeId: string;
  readonly fits: boolean;
  /** One line for people. */
  readonly reason: string;
}

/** Whether it is there to stay, as far as it shows. */
const stays = ({ state }: ObservedReplica): boolean => state !== 'broken' && state !== 'stopping';

/**
 * @param nowMs the time, milliseconds since the epoch
 * @param of whose specification it is
 * @returns a verdict for each node, in the order of their ids
 */
export const explainPlacement = (
  spec: ReleaseSpec,
  { nodes, replicas }: Snapshot,
  nowMs: number,
  of: MicroserviceKey,
): readonly NodeVerdict[] => {
  const up = new Set(nodes.filter((node) => node.up).map(({ id }) => id));
  const observed = replicas.filter(({ nodeId }) => up.has(nodeId));
  const staying = observed.filter(stays);
  const needs = needsOf(spec, of);
  const createAccount = () =>
    createPlacer({ nodes, observed, staying, needs, refusals: {}, seed: '', nowMs });
  const placer = createAccount();
  const rejections = new Map(placer.explain().map(({ nodeId, reason }) => [nodeId, reason]));
  const merits = placer.merits();
  const first = createAccount().place();
  const engineless = enginelessNodes(nodes);
  const occupied = new Set(
    spec.daemon === true ? staying.map(({ nodeId }) => nodeId).filter((id) => !engineless.has(id)) : [],
  );

  const verdictOn = ({ id, health, availability, unstableUntilMs }: SnapshotNode): NodeVerdict => {
    if (occupied.has(id)) {
      const leaves = availability === 'draining' ? ', and stops there after all others' : '';
      return { nodeId: id, fits: false, reason: `runs its replica${leaves}: a daemon has one on each node` };
    }
    const rejection = rejections.get(id);
    if (rejection !== undefined) {
      const keeps = needs.keepsData && staying.some(({ nodeId }) => nodeId === id);
      const remains =
        keeps && availability === 'draining'
          ? '; what it runs stays, because its data is in volumes there'
          : '';
      return { nodeId: id, fits: false, reason: `${rejection}${remains}` };
    }
    const room = 'has room for one more replica';
    if (unstableUntilMs !== undefined && isUnstable({ unstableUntilMs }, nowMs)) {
      return {
        nodeId: id,
        fits: true,
        reason: `${room}, but comes and goes: ${consequenceInWords(unstableUntilMs)}`,
      };
    }
    if (health === 'degraded') {
      return { nodeId: id, fits: true, reason: `${room}, but is degraded: healthy nodes come first` };
    }
    const why = (merits.get(id) ?? []).join(', ');
    const isFirst = id === first && spec.daemon !== true;
    return { nodeId: id, fits: true, reason: `${room}${isFirst ? ' and is the first choice' : ''}: ${why}` };
  };
  return nodes.map(verdictOn).sort((left, right) => (left.nodeId < right.nodeId ? -1 : 1));
};
