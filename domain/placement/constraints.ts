/**
 * What a specification asks of its nodes by name: labels, and what every node has without being labelled. Pure.
 *
 * Invariant: `node.arch` and `node.id` are what the node is; a label of that name changes nothing.
 */

import type { SnapshotNode } from '../model';

/** Uname's names of processor architectures beside those of images. */
const ARCHITECTURE_ALIASES: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' };

export const NODE_ATTRIBUTES = ['node.arch', 'node.id'] as const;

const canonical = (key: string, value: string): string =>
  key === 'node.arch' && Object.hasOwn(ARCHITECTURE_ALIASES, value)
    ? (ARCHITECTURE_ALIASES[value] ?? value)
    : value;

const valueOf = (node: SnapshotNode, key: string): string | undefined => {
  if (key === 'node.arch') return canonical(key, node.architecture);
  if (key === 'node.id') return node.id;
  return Object.hasOwn(node.labels, key) ? node.labels[key] : undefined;
};

export interface UnmetConstraint {
  readonly key: string;
  readonly value: string;
  /** What the node has instead; undefined when nothing. */
  readonly actual: string | undefined;
}

/** @returns the constraints that a node does not meet, in their order */
export const unmetConstraints = (
  node: SnapshotNode,
  constraints: Readonly<Record<string, string>>,
): readonly UnmetConstraint[] =>
  Object.entries(constraints)
    .map(([key, value]): UnmetConstraint => ({ key, value, actual: valueOf(node, key) }))
    .filter(({ key, value, actual }) => actual !== canonical(key, value));
