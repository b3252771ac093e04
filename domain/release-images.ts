/**
 * Which bits the images of a release are: a tag may move, so it is looked up once, and from then on every replica of
 * the release runs what was found. Pure.
 *
 * Invariants: what is pinned is the digest that the registry has for all architectures together, so that nodes of any
 * of them get their own build; an image that is in no registry is pinned by its id on the nodes that have it, which
 * differs between architectures; a release is looked up whole or not at all, and never again.
 */

import type { Release, Snapshot, SnapshotNode } from './model';
import { unmetConstraints } from './placement/constraints';
import { enginelessNodes } from './placement/snapshot';
import type { ReleaseSpec } from './spec/schema';

const DIGEST = /@[a-z0-9+._-]+:[0-9a-f]{32,}$/i;
const TAG = /:[^/:@]+$/;
const DEFAULT_REGISTRY = /^docker\.io\/(?:library\/)?/;

const BARE_DIGEST = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-f]{32,128}$/;

/** Whether it may follow the `@` of an image: "sha256:…". */
export const isDigest = (text: string): boolean => BARE_DIGEST.test(text);

export const hasDigest = (image: string): boolean => DIGEST.test(image);

/** The repository of an image: without tag and digest. */
export const repositoryOf = (image: string): string => image.replace(DIGEST, '').replace(TAG, '');

/** Without a tag Docker means `latest`. */
export const withTag = (image: string): string =>
  image.includes('@') || TAG.test(image) ? image : `${image}:latest`;

/**
 * "web:1" and "sha256:…" make "web:1@sha256:…": the tag stays for people, the digest decides.
 *
 * @param image without a digest
 */
export const pinnedReference = (image: string, digest: string): string => `${withTag(image)}@${digest}`;

/** As the Docker Engine is to be asked for it: some engines go by the tag when a reference has both. */
export const engineReference = (image: string): string => {
  const [digest] = DIGEST.exec(image) ?? [];
  return digest === undefined ? image : `${repositoryOf(image)}${digest}`;
};

/** For people: a tag with a digest behind it is shown as the tag. */
export const imageInWords = (image: string): string => {
  const tagged = image.replace(DIGEST, '');
  return TAG.test(tagged) ? tagged : image;
};

/** Whether an engine with these images has one, by whichever of its references. */
export const hasImage = (images: ReadonlySet<string>, image: string): boolean => {
  if (images.has(image)) return true;
  const asked = engineReference(image);
  return images.has(asked) || images.has(asked.replace(DEFAULT_REGISTRY, ''));
};

/** Images of a release that have to be looked up, each once, in the order of their names. */
export const openImages = ({ containers }: Pick<ReleaseSpec, 'containers'>): readonly string[] =>
  [...new Set(containers.map(({ image }) => image).filter((image) => !hasDigest(image)))].sort();

/** The release as nodes are to run it: its images with the digests that were found for them. */
export const withDigests = (release: Release): Release => {
  const { images } = release;
  if (images === undefined || Object.keys(images).length === 0) return release;
  const pinned = (image: string): string => {
    const digest = Object.hasOwn(images, image) ? images[image] : undefined;
    return digest === undefined ? image : pinnedReference(image, digest);
  };
  const { spec } = release;
  return {
    ...release,
    spec: {
      ...spec,
      containers: spec.containers.map((container) => ({ ...container, image: pinned(container.image) })),
    },
  };
};

/** As the user has written it, of an image of a release as nodes run it. */
export const writtenImage = ({ images = {} }: Pick<Release, 'images'>, image: string): string =>
  Object.entries(images).find(([written, digest]) => pinnedReference(written, digest) === image)?.[0] ??
  image;

/** The release as the user has written it: what `withDigests` has put into it is out again. */
export const withoutDigests = (release: Release): Release => ({
  ...release,
  spec: {
    ...release.spec,
    containers: release.spec.containers.map((container) => ({
      ...container,
      image: writtenImage(release, container.image),
    })),
  },
});

/** The id of an image that is in no registry, on nodes of an architecture. */
export const localImageId = (
  { localImages = {} }: Pick<Release, 'localImages'>,
  image: string,
  architecture: string,
): string | undefined => {
  const ids = Object.hasOwn(localImages, image) ? (localImages[image] ?? {}) : {};
  return Object.hasOwn(ids, architecture) ? ids[architecture] : undefined;
};

/** A node that can be asked for the digests of a release's images. */
export interface ImageSource {
  readonly nodeId: string;
  readonly architecture: string;
  /** Which of the images it has by their tags. */
  readonly has: readonly string[];
}

/** Where digests are looked up; none when that is not due. */
export interface ImageSources {
  /** Replicas of the release run already, from before digests were looked up: they go on as they are. */
  readonly isTooLate: boolean;
  readonly sources: readonly ImageSource[];
}

const SOURCES_PER_ARCHITECTURE = 3;

/**
 * @param release whose images are to be looked up
 * @returns nodes to ask, in this order: those first that may run it and have most of its images, so that nothing has
 *   to be asked of a registry that need not be; a few of each architecture
 */
export const findImageSources = (release: Release, { nodes, replicas }: Snapshot): ImageSources => {
  const open = openImages(release.spec);
  const engineless = enginelessNodes(nodes);
  const rank = (node: SnapshotNode): readonly number[] => [
    unmetConstraints(node, release.spec.constraints).length === 0 ? 0 : 1,
    -open.filter((image) => node.images.includes(image)).length,
    node.availability === 'active' ? 0 : 1,
    node.health === 'healthy' ? 0 : 1,
  ];
  const ranked = nodes
    .filter(({ up, id }) => up && !engineless.has(id))
    .map((node) => ({ node, ranks: rank(node) }))
    .sort((left, right) => {
      const differing = left.ranks.findIndex((value, index) => value !== right.ranks[index]);
      if (differing !== -1) return (left.ranks[differing] ?? 0) - (right.ranks[differing] ?? 0);
      return left.node.id < right.node.id ? -1 : 1;
    });
  const taken = new Map<string, number>();
  const sources = ranked.flatMap(({ node }): ImageSource[] => {
    const { id: nodeId, architecture, images } = node;
    const count = taken.get(architecture) ?? 0;
    if (count === SOURCES_PER_ARCHITECTURE) return [];
    taken.set(architecture, count + 1);
    return [{ nodeId, architecture, has: open.filter((image) => images.includes(image)) }];
  });
  const isTooLate = replicas.some(
    ({ release: number, releasedAtMs = release.createdAtMs }) =>
      number === release.number && releasedAtMs === release.createdAtMs,
  );
  return { isTooLate, sources };
};
