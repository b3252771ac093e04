/**
 * Places: what the proxy's configuration has for hostnames. A place is fixed to a hostname, or spare: then it reads
 * which hostname it has with each request. So a hostname gets a spare place without a new configuration, which would
 * close connections (docs/decisions/ingress.md). Pure.
 *
 * Invariants: a hostname has one place; a fixed place leads nowhere else than to its hostname's endpoints, also when
 * its hostname is gone and comes back; a number of a place is never used for another one. Routes with options have fixed
 * places, which stand before those without, longer paths first, and are in the configuration no longer than they are
 * wanted. Wildcards have fixed places behind all others, the spare ones too, so that exact hostnames are found first; and
 * no place is left for a hostname that is gone where a wildcard stands for it.
 */

import { sameJson } from '../spec/diff';

import { isWildcard, wildcardFor } from './wildcard';
import { claimOf, type PlaceOptions } from './route-options';
import { slotCountFor } from './slots';

export interface Place {
  readonly number: number;
  readonly slots: number;
  /** Whether the configuration says which hostname it has; a spare place can be read another one. */
  readonly isFixed: boolean;
  /** Left out by a spare place without one. */
  readonly hostname?: string;
  /** What else the configuration says of it; a place that is not fixed has none. */
  readonly options?: PlaceOptions;
  /** Where its slots led when the configuration was made, which has it, so that nothing is read as long as they still do. */
  readonly settled?: readonly string[];
}

/** In the order of the configuration. */
export type Layout = readonly Place[];

/** A hostname that has to have a place, with room for so many endpoints. */
export interface WantedPlace {
  readonly hostname: string;
  readonly endpoints: number;
  readonly options?: PlaceOptions;
}

/** What tells places apart: a hostname can lead elsewhere with another path. */
export const keyOfPlace = ({ hostname = '', options }: Pick<Place, 'hostname' | 'options'>): string =>
  claimOf(hostname, options?.path);

/** How many hostnames can come before a new configuration is due; an unknown hostname costs the reading of so many files. */
export const SPARE_PLACES = 16;
const SPARE_SLOTS = slotCountFor(0);

export type LayoutChange =
  /** The configuration stays; spare places have other hostnames. */
  | { readonly kind: 'reread'; readonly layout: Layout }
  /** A new configuration is needed. */
  | { readonly kind: 'reload'; readonly layout: Layout };

const placesByKey = (layout: Layout): ReadonlyMap<string, Place> =>
  new Map(
    layout.flatMap((place) => (place.hostname === undefined ? [] : [[keyOfPlace(place), place] as const])),
  );

/** Whether a place with options has others, or is wanted no more: it would go on answering. */
const hasOtherOptions = (before: Layout, wanted: readonly WantedPlace[]): boolean => {
  if (!before.some(({ options }) => options) && !wanted.some(({ options }) => options)) return false;
  const optionsOf = new Map(wanted.map((one) => [keyOfPlace(one), one.options]));
  const has = placesByKey(before);
  return (
    before.some((place) => place.options !== undefined && !optionsOf.has(keyOfPlace(place))) ||
    wanted.some((one) => !sameJson(one.options, has.get(keyOfPlace(one))?.options))
  );
};

/** Whether a place that is wanted no more would keep a hostname from the wildcard that stands for it. */
const hidesWildcard = (before: Layout, wanted: readonly WantedPlace[]): boolean => {
  const wildcards = new Set(wanted.map(({ hostname }) => hostname).filter(isWildcard));
  if (wildcards.size === 0) return false;
  const isWanted = new Set(wanted.map(keyOfPlace));
  return before.some(
    (place) =>
      place.isFixed &&
      wildcards.has(wildcardFor(place.hostname ?? '') ?? '') &&
      !isWanted.has(keyOfPlace(place)),
  );
};

/**
 * @param before as the configuration in force has it; empty when there is none
 * @param wanted each hostname, or hostname and path, once, in a stable order
 * @returns what is needed to give each a place with room for its endpoints; `reread` of the same layout when they have
 */
export const arrange = (before: Layout, wanted: readonly WantedPlace[]): LayoutChange => {
  if (before.length === 0) return { kind: 'reload', layout: anew(before, wanted) };
  if (hasOtherOptions(before, wanted) || hidesWildcard(before, wanted)) {
    return { kind: 'reload', layout: anew(before, wanted) };
  }
  const has = placesByKey(before);
  const fits = (place: Place | undefined, endpoints: number): place is Place =>
    place !== undefined && place.slots >= slotCountFor(endpoints);
  const isWanted = new Set(wanted.map(keyOfPlace));
  // Not one that loses its hostname now: for a moment requests for that would go to the endpoints of the other.
  const free = before.filter(({ isFixed, hostname }) => !isFixed && hostname === undefined);
  const taken = new Map<number, string>();
  for (const one of wanted) {
    const { hostname, endpoints } = one;
    const place = has.get(keyOfPlace(one));
    if (fits(place, endpoints)) continue;
    const spare =
      place === undefined && !isWildcard(hostname)
        ? free.find(({ number }) => !taken.has(number))
        : undefined;
    if (!fits(spare, endpoints)) return { kind: 'reload', layout: anew(before, wanted) };
    taken.set(spare.number, hostname);
  }
  const layout = before.map((place): Place => {
    if (place.isFixed) return place;
    const hostname = taken.get(place.number) ?? place.hostname;
    const { number, slots, isFixed } = place;
    return hostname !== undefined && isWanted.has(hostname)
      ? { number, slots, isFixed, hostname }
      : { number, slots, isFixed };
  });
  return { kind: 'reread', layout };
};

/** Every wanted hostname in a fixed place, and all spare ones free: what a new configuration for them has. */
export const anew = (before: Layout, wanted: readonly WantedPlace[]): Layout => {
  const has = placesByKey(before);
  let next = before.reduce((most, { number }) => Math.max(most, number), -1) + 1;
  const fixed = wanted.map((one): Place => {
    const { hostname, endpoints, options } = one;
    const place = has.get(keyOfPlace(one));
    const slots = Math.max(place?.slots ?? 0, slotCountFor(endpoints));
    const number = place?.number ?? next++;
    return { number, slots, isFixed: true, hostname, ...(options === undefined ? {} : { options }) };
  });
  const spare = Array.from({ length: SPARE_PLACES }, (): Place => ({
    number: next++,
    slots: SPARE_SLOTS,
    isFixed: false,
  }));
  const inOrder = (places: Layout): Layout => [
    ...places
      .filter(({ options }) => options !== undefined)
      .sort((a, b) => (b.options?.path?.length ?? 0) - (a.options?.path?.length ?? 0)),
    ...places.filter(({ options }) => options === undefined),
  ];
  const wildcards = fixed.filter(({ hostname = '' }) => isWildcard(hostname));
  const exact = fixed.filter(({ hostname = '' }) => !isWildcard(hostname));
  return [...inOrder(exact), ...spare, ...inOrder(wildcards)];
};
