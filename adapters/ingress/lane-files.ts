/**
 * Lanes of the ingress on the disk: Caddy reads with each request which hostnames a lane has and where its slots lead
 * (domain/ingress/lanes).
 *
 * Invariants: what a lane leads is replaced as a whole, by one rename, so that no request finds the hostnames of one
 * split with the slots of another; a lane that leads nothing has no hostname; the mark that there are lanes in use is
 * there before the first is, and goes after the last.
 */

import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { FIRST_LANES, LANE_HOSTNAMES, type LaneContent, type LaneSizes } from '../../domain/ingress/lanes';
import { mismatch, type Shape } from '../../domain/shape';

import { JUDGED, NO_HOSTNAME, laneDirectory, laneLink } from './lane-config';
import { LANES_IN_USE, putMark, removeMark } from './marks';

export interface LaneFiles {
  /** As the configuration in force, or about to be, has them. */
  readSizes(): LaneSizes;
  writeSizes(sizes: LaneSizes): void;
  /** Writes what differs; lanes beyond the contents lead nothing. */
  writeLanes(sizes: LaneSizes, contents: readonly LaneContent[]): void;
}

const SIZES: Shape<LaneSizes> = { count: 'number', slots: 'number' };

const areSizes = (value: unknown): value is LaneSizes =>
  mismatch<LaneSizes>(value, SIZES) === undefined &&
  Object.values(value as LaneSizes).every((size: number) => Number.isInteger(size) && size >= 1);

const sizesIn = (text: string): LaneSizes | undefined => {
  try {
    const sizes: unknown = JSON.parse(text);
    return areSizes(sizes) ? sizes : undefined;
  } catch {
    return undefined; // a power cut has left it empty
  }
};

/** @throws the file system's errors, here and in all that it returns */
export const openLaneFiles = (directory: string): LaneFiles => {
  const sizesFile = join(directory, 'lanes.json');
  mkdirSync(join(directory, 'lanes'), { recursive: true, mode: 0o700 });
  const known = new Map<number, string>();
  let generation = 0;

  const readSizes = (): LaneSizes => {
    try {
      return sizesIn(readFileSync(sizesFile, 'utf8')) ?? FIRST_LANES;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return FIRST_LANES;
      throw error;
    }
  };

  const replace = (lane: number, slots: number, content: LaneContent | undefined): void => {
    const text = JSON.stringify([slots, content]);
    if (known.get(lane) === text) return;
    const of = laneDirectory(directory, lane);
    mkdirSync(of, { recursive: true, mode: 0o700 });
    // Of an earlier process, and of half a turn.
    const before = readdirSync(of);
    while (before.includes(`v${generation}`)) generation += 1;
    const name = `v${generation}`;
    generation += 1;
    const made = join(of, name);
    mkdirSync(made, { mode: 0o700 });
    const put = (file: string, value: string) => writeFileSync(join(made, file), value, { mode: 0o600 });
    for (let index = 0; index < LANE_HOSTNAMES; index += 1) {
      put(`hostname${index}`, content?.hostnames[index] ?? NO_HOSTNAME);
    }
    content?.slots.forEach((address, slot) => put(String(slot), address));
    if (content?.isJudged === true) put(JUDGED, '');
    const draft = join(of, 'draft');
    rmSync(draft, { force: true });
    symlinkSync(name, draft);
    renameSync(draft, laneLink(directory, lane));
    known.set(lane, text);
    for (const old of before) if (/^v\d+$/.test(old)) rmSync(join(of, old), { recursive: true, force: true });
  };

  return {
    readSizes,
    writeSizes: (sizes) => {
      const draft = `${sizesFile}.draft`;
      writeFileSync(draft, JSON.stringify(sizes), { mode: 0o600 });
      renameSync(draft, sizesFile);
    },
    writeLanes: ({ count, slots }, contents) => {
      if (contents.length > 0) putMark(directory, LANES_IN_USE);
      for (let lane = 0; lane < count; lane += 1) replace(lane, slots, contents[lane]);
      if (contents.length === 0) removeMark(directory, LANES_IN_USE);
    },
  };
};
