/**
 * Others: a few endpoints of a place, of which one is asked when the one that was asked before has failed. Pure.
 *
 * Whoever reads them knows which one has failed, and takes the next one instead of it: so neighbours are different
 * endpoints, and what is asked again is shared out among all of them.
 */

/** So many endpoints share what is asked again of a place. */
export const OTHERS = 4;

/**
 * @param addresses of the endpoints, each once, in any order
 * @param seed what tells nodes apart, so that not all of them choose the same
 * @param nowhere what they are when there is no endpoint
 * @returns `OTHERS` addresses; neighbours are different as far as there are two endpoints, but for the last and the first
 */
export const chooseOthers = (
  addresses: readonly string[],
  seed: number,
  nowhere: string,
): readonly string[] => {
  const sorted = [...addresses].sort();
  const step = Math.max(1, sorted.length / OTHERS);
  return Array.from(
    { length: OTHERS },
    (_, index) => sorted[(seed + Math.floor(index * step)) % sorted.length] ?? nowhere,
  );
};
