/**
 * Where one more replica could go now, and why it could not go elsewhere: what the planner would say, without a plan.
 * Pure.
 */

import type { Snapshot } from '../model';
import type { ReleaseSpec } from '../spec/schema';
import { needsOf } from './needs';
import { createPlacer } from './placer';

export interface NodeVerdict {
  readonly nodeId: string;
  readonly fits: boolean;
  /** One line for people. */
  readonly reason: string;
}

/** @returns a verdict for each node, in the order of their ids */
export const explainPlacement = (
  spec: ReleaseSpec,
  { nodes, replicas }: Snapshot,
): readonly NodeVerdict[] => {
  const up = new Set(nodes.filter((node) => node.up).map(({ id }) => id));
  const placer = createPlacer({
    nodes,
    observed: replicas.filter(({ nodeId }) => up.has(nodeId)),
    staying: [],
    needs: needsOf(spec),
    refusals: {},
    seed: '',
  });
  const rejections = new Map(placer.explain().map(({ nodeId, reason }) => [nodeId, reason]));
  return nodes
    .map(({ id, health }): NodeVerdict => {
      const rejection = rejections.get(id);
      if (rejection !== undefined) return { nodeId: id, fits: false, reason: rejection };
      const room = 'has room for one more replica';
      return {
        nodeId: id,
        fits: true,
        reason: health === 'degraded' ? `${room}, but is degraded: healthy nodes come first` : room,
      };
    })
    .sort((left, right) => (left.nodeId < right.nodeId ? -1 : 1));
};
