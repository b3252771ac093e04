/**
 * Places of the ingress on the disk: Caddy reads with each request where a slot leads, and which hostname a spare place
 * has (domain/ingress/layout). What the configuration says itself is not read, unless there is the mark that some of it
 * holds no more.
 *
 * Invariants: a file is replaced whole, so that no request sees half an address; what is known here is what stands in
 * the files, also after a restart; the mark is there before a slot leads elsewhere than the configuration in force says.
 */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Layout, Place } from '../../domain/ingress/layout';
import { mismatch, type Shape } from '../../domain/shape';

import { hostnameFile, placeDirectory, slotFile } from './caddy-config';
import { MOVED, putMark, removeMark } from './marks';

export interface PlaceFiles {
  /** As it was written last, with the hostnames that spare places have now; empty when there is none that can be read. */
  readLayout(): Layout;
  /** Keeps the layout of the configuration that is in force, or about to be. */
  writeLayout(layout: Layout): void;
  /** Where the slots of a place lead; empty when it has none yet. */
  slots(place: number): readonly string[];
  /** @returns whether any of them has led elsewhere before */
  writeSlots(place: number, addresses: readonly string[]): boolean;
  /** Whether requests for the place read nothing, or there are none. */
  isSettled(place: Place): boolean;
  /** To be called when the written layout is in force, also after a restart: removes the mark if the configuration is right. */
  removeMarkIfRight(): void;
  /** Writes it when it is another one. @param hostname undefined: the place has none */
  writeHostname(place: number, hostname: string | undefined): void;
  /** Writes a file of a place beside its slots when it has another text. */
  writePart(place: number, name: string, text: string): void;
  /** Removes all places but these. */
  keepOnly(places: Layout): void;
}

/** No request has such a host. */
const NO_HOSTNAME = '-';

/** Nobody but this module writes the options. */
const LAYOUT: Shape<Layout> = [
  'list',
  {
    number: 'number',
    slots: 'number',
    isFixed: 'boolean',
    hostname: ['optional', 'text'],
    options: ['optional', {}],
    settled: ['optional', ['list', 'text']],
  },
];

const sameSlots = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((address, slot) => address === b[slot]);

/** A file that a power cut has left empty is none: the keeper makes a layout anew from what the cluster says. */
const layoutIn = (text = ''): Layout => {
  try {
    const layout: unknown = JSON.parse(text);
    return mismatch<Layout>(layout, LAYOUT) === undefined ? (layout as Layout) : [];
  } catch {
    return [];
  }
};

/** @throws the file system's errors, here and in all that it returns */
export const openPlaceFiles = (directory: string): PlaceFiles => {
  const places = join(directory, 'places');
  const layoutFile = join(directory, 'layout.json');
  mkdirSync(places, { recursive: true, mode: 0o700 });
  const known = new Map<number, string[]>();
  const knownHostnames = new Map<number, string>();
  const knownParts = new Map<number, Map<string, string>>();

  const readIfThere = (file: string): string | undefined => {
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  };

  const draftOf = (file: string): string => `${file}.draft`;
  const writeDraft = (file: string, text: string): void =>
    writeFileSync(draftOf(file), text, { mode: 0o600 });
  const putInForce = (file: string): void => renameSync(draftOf(file), file);

  const write = (file: string, text: string): void => {
    writeDraft(file, text);
    putInForce(file);
  };

  const slotsOf = (place: number): string[] => {
    const found = known.get(place);
    if (found !== undefined) return found;
    const slots: string[] = [];
    for (;;) {
      const address = readIfThere(slotFile(directory, place, slots.length));
      if (address === undefined) break;
      slots.push(address);
    }
    known.set(place, slots);
    return slots;
  };

  const readLayout = (): Layout =>
    layoutIn(readIfThere(layoutFile)).map(({ hostname: fixed, options, settled, ...bare }): Place => {
      const place = {
        ...bare,
        ...(options === undefined ? {} : { options }),
        ...(settled === undefined ? {} : { settled }),
      };
      const hostname = place.isFixed ? fixed : readIfThere(hostnameFile(directory, place.number));
      return hostname === undefined || hostname === NO_HOSTNAME ? place : { ...place, hostname };
    });

  const settledIn = (layout: Layout): Map<number, readonly string[]> =>
    new Map(layout.flatMap(({ number, settled }) => (settled === undefined ? [] : [[number, settled]])));
  const atStart = readLayout();
  /** As the configuration has it. */
  let settledSlots = settledIn(atStart);
  // Nobody knows then what Caddy may have been told.
  if (atStart.length === 0) putMark(directory, MOVED);

  return {
    readLayout,
    writeLayout: (layout) => {
      write(layoutFile, JSON.stringify(layout));
      settledSlots = settledIn(layout);
    },
    slots: slotsOf,
    writeSlots: (place, addresses) => {
      const before = slotsOf(place);
      if (sameSlots(before, addresses)) return false;
      const settled = settledSlots.get(place);
      if (settled !== undefined && !sameSlots(settled, addresses)) putMark(directory, MOVED);
      if (before.length === 0) mkdirSync(placeDirectory(directory, place), { recursive: true, mode: 0o700 });
      // Not the one that was given out, which whoever has it may keep.
      const now = [...before];
      known.set(place, now);
      const changes = addresses.flatMap((address, slot) =>
        before[slot] === address ? [] : [{ slot, address, file: slotFile(directory, place, slot) }],
      );
      // All of them are there before any counts: until the last one does, requests are led here and there.
      for (const { file, address } of changes) writeDraft(file, address);
      for (const { file, slot, address } of changes) {
        putInForce(file);
        now[slot] = address;
      }
      return true;
    },
    isSettled: ({ number, isFixed, hostname, settled }) =>
      isFixed ? settled !== undefined && sameSlots(settled, slotsOf(number)) : hostname === undefined,
    removeMarkIfRight: () => {
      if ([...settledSlots].every(([number, settled]) => sameSlots(settled, slotsOf(number))))
        removeMark(directory, MOVED);
    },
    writeHostname: (place, hostname = NO_HOSTNAME) => {
      if (knownHostnames.get(place) === hostname) return;
      mkdirSync(placeDirectory(directory, place), { recursive: true, mode: 0o700 });
      write(hostnameFile(directory, place), hostname);
      knownHostnames.set(place, hostname);
    },
    writePart: (place, name, text) => {
      const parts = knownParts.get(place) ?? new Map<string, string>();
      if (parts.get(name) === text) return;
      mkdirSync(placeDirectory(directory, place), { recursive: true, mode: 0o700 });
      write(join(placeDirectory(directory, place), name), text);
      knownParts.set(place, parts.set(name, text));
    },
    keepOnly: (layout) => {
      const kept = new Set(layout.map(({ number }) => String(number)));
      for (const name of readdirSync(places)) {
        if (kept.has(name)) continue;
        known.delete(Number(name));
        knownHostnames.delete(Number(name));
        knownParts.delete(Number(name));
        rmSync(join(places, name), { recursive: true, force: true });
      }
    },
  };
};
