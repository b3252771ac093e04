/**
 * Places: what the proxy's configuration has for hostnames. A place is fixed to a hostname, or spare: then it reads
 * which hostname it has with each request. So a hostname gets a spare place without a new configuration, which would
 * close connections (docs/decisions/ingress.md). Pure.
 *
 * Invariants: a hostname has one place; a fixed place leads nowhere else than to its hostname's endpoints, also when
 * its hostname is gone and comes back; a number of a place is never used for another one.
 */

import { slotCountFor } from './slots';

export interface Place {
  readonly number: number;
  readonly slots: number;
  /** Whether the configuration says which hostname it has; a spare place can be read another one. */
  readonly isFixed: boolean;
  /** Left out by a spare place without one. */
  readonly hostname?: string;
}

/** In the order of the configuration. */
export type Layout = readonly Place[];

/** A hostname that has to have a place, with room for so many endpoints. */
export interface WantedPlace {
  readonly hostname: string;
  readonly endpoints: number;
}

/** How many hostnames can come before a new configuration is due; an unknown hostname costs the reading of so many files. */
export const SPARE_PLACES = 16;
const SPARE_SLOTS = slotCountFor(0);

export type LayoutChange =
  /** The configuration stays; spare places have other hostnames. */
  | { readonly kind: 'reread'; readonly layout: Layout }
  /** A new configuration is needed. */
  | { readonly kind: 'reload'; readonly layout: Layout };

const placesByHostname = (layout: Layout): ReadonlyMap<string, Place> =>
  new Map(
    layout.flatMap((place) => (place.hostname === undefined ? [] : [[place.hostname, place] as const])),
  );

/**
 * @param before as the configuration in force has it; empty when there is none
 * @param wanted each hostname once, in a stable order
 * @returns what is needed to give each a place with room for its endpoints; `reread` of the same layout when they have
 */
export const arrange = (before: Layout, wanted: readonly WantedPlace[]): LayoutChange => {
  if (before.length === 0) return { kind: 'reload', layout: anew(before, wanted) };
  const has = placesByHostname(before);
  const fits = (place: Place | undefined, endpoints: number): place is Place =>
    place !== undefined && place.slots >= slotCountFor(endpoints);
  const isWanted = new Set(wanted.map(({ hostname }) => hostname));
  // Not one that loses its hostname now: for a moment requests for that would go to the endpoints of the other.
  const free = before.filter(({ isFixed, hostname }) => !isFixed && hostname === undefined);
  const taken = new Map<number, string>();
  for (const { hostname, endpoints } of wanted) {
    const place = has.get(hostname);
    if (fits(place, endpoints)) continue;
    const spare = place === undefined ? free.find(({ number }) => !taken.has(number)) : undefined;
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

/** Every wanted hostname in a fixed place, and all spare ones free. */
const anew = (before: Layout, wanted: readonly WantedPlace[]): Layout => {
  const has = placesByHostname(before);
  let next = before.reduce((most, { number }) => Math.max(most, number), -1) + 1;
  const fixed = wanted.map(({ hostname, endpoints }): Place => {
    const place = has.get(hostname);
    const slots = Math.max(place?.slots ?? 0, slotCountFor(endpoints));
    return { number: place?.number ?? next++, slots, isFixed: true, hostname };
  });
  const spare = Array.from({ length: SPARE_PLACES }, (): Place => ({
    number: next++,
    slots: SPARE_SLOTS,
    isFixed: false,
  }));
  return [...fixed, ...spare];
};
