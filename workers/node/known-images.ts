/** Which of its images a node tells the cluster. Pure. */

import { MAX_NODE_IMAGES, MAX_NODE_IMAGE_CHARACTERS } from '../../contracts/node-documents';

/**
 * As many as the node's document has room for: first those by a tag, which is how most specifications name them. What
 * is left out only counts as an image that has to be pulled.
 *
 * @param references every reference that names an image of the engine
 * @returns sorted
 */
export const tellableImages = (references: readonly string[]): readonly string[] => {
  const [tagged, digests] = [false, true].map((isDigest) =>
    references.filter((reference) => reference.includes('@') === isDigest).sort(),
  );
  const told: string[] = [];
  let characters = 0;
  for (const reference of [...(tagged ?? []), ...(digests ?? [])]) {
    if (told.length === MAX_NODE_IMAGES) break;
    characters += reference.length;
    if (characters > MAX_NODE_IMAGE_CHARACTERS) break;
    told.push(reference);
  }
  return told.sort();
};
