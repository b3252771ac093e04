/**
 * Which images cannot be had for the processor architecture of a node, as far as that has been found out. Pure.
 *
 * Invariants: what nobody has found out hinders nothing; what was found out before a release was made says nothing of
 * it, because the image may have been built anew since; what a node says holds for itself, and what an operation was
 * answered by one node holds for all of that architecture, but only in that operation.
 */

import { groupBy } from '../group-by';
import type { MissingBuild, Release, Snapshot, SnapshotNode } from '../model';
import { hasImage, imageInWords } from '../release-images';

/** What one operation was answered, by the id of the node that answered. */
export type ToldBuilds = Readonly<Record<string, readonly MissingBuild[]>>;

const uniqueByImage = (found: readonly MissingBuild[]): readonly MissingBuild[] => [
  ...new Map(found.toReversed().map((one) => [one.image, one])).values(),
];

/**
 * @param told what the operation was answered, in which others of that architecture are not asked again
 * @param asksAnew whether what was found out before the operation is to be tried again
 * @returns the snapshot, in which each node lacks the builds that a replica of the release would find missing there
 */
export const withMissingBuilds = (
  snapshot: Snapshot,
  { createdAtMs }: Pick<Release, 'createdAtMs'>,
  told: ToldBuilds = {},
  asksAnew = false,
): Snapshot => {
  const { nodes } = snapshot;
  if (nodes.every(({ missingBuilds }) => missingBuilds === undefined) && Object.keys(told).length === 0) {
    return snapshot;
  }
  const toldOf = ({ id }: SnapshotNode) => (Object.hasOwn(told, id) ? (told[id] ?? []) : []);
  const ofArchitecture = groupBy(nodes, ({ architecture }) => architecture);
  const toldOfArchitecture = new Map(
    [...ofArchitecture].map(([architecture, alike]) => [architecture, alike.flatMap(toldOf)]),
  );
  return {
    ...snapshot,
    nodes: nodes.map((node) => {
      const { missingBuilds: known, ...rest } = node;
      const earlier = asksAnew ? [] : (known ?? []).filter(({ seenAtMs }) => seenAtMs >= createdAtMs);
      // What another one of its kind could not get, it may have all the same.
      const alike = (toldOfArchitecture.get(node.architecture) ?? []).filter(
        ({ image }) => !hasImage(new Set(node.images), image),
      );
      const missingBuilds = uniqueByImage([...toldOf(node), ...earlier, ...alike]);
      return missingBuilds.length === 0 ? rest : { ...rest, missingBuilds };
    }),
  };
};

/** @returns what a node lacks of some images, in the order of the images */
export const lackingBuilds = (
  { missingBuilds }: Pick<SnapshotNode, 'missingBuilds'>,
  images: readonly string[],
): readonly MissingBuild[] =>
  images.flatMap((wanted) => (missingBuilds ?? []).filter(({ image }) => image === wanted));

/** "the image web:1 has no build for arm64; it has amd64" */
export const missingBuildInWords = (
  { image, available }: Pick<MissingBuild, 'image' | 'available'>,
  architecture: string,
): string =>
  `the image ${imageInWords(image)} has no build for ${architecture}${available.length === 0 ? '' : `; it has ${available.join(', ')}`}`;
