/** Nodes as the planner sees them, from what they and their replicas published. Pure. */

import type { ObservedNode, ObservedReplica, SnapshotNode } from '../model';

/**
 * @param replicas those of every microservice
 * @param isUp whether Consul's membership holds the node for alive
 */
export const snapshotNodes = (
  nodes: readonly ObservedNode[],
  replicas: readonly ObservedReplica[],
  isUp: (nodeId: string) => boolean,
): readonly SnapshotNode[] => {
  const reserved = new Map<string, { cpus: number; memoryBytes: number; count: number }>();
  for (const { nodeId, cpusReserved, memoryReservedBytes } of replicas) {
    const sum = reserved.get(nodeId) ?? { cpus: 0, memoryBytes: 0, count: 0 };
    sum.cpus += cpusReserved;
    sum.memoryBytes += memoryReservedBytes;
    sum.count += 1;
    reserved.set(nodeId, sum);
  }
  return nodes.map((node) => {
    const sum = reserved.get(node.id);
    return {
      ...node,
      up: isUp(node.id),
      cpusReserved: sum?.cpus ?? 0,
      memoryReservedBytes: sum?.memoryBytes ?? 0,
      replicaCount: sum?.count ?? 0,
    };
  });
};
