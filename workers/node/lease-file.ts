/**
 * When the leases of this node's replicas are over, where the guard and a worker that is started anew find it.
 *
 * Invariants: times are of a clock that all processes of the machine share, that nobody sets, and that counts a
 * machine's sleep, too; what was written before the machine was started counts for nothing; what cannot be read is
 * no lease. The file is written in place, with one call, so that a memory card is not worn.
 */

import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** By replica, on the clock of the machine. */
export type Deadlines = Readonly<Record<string, number>>;

/** Milliseconds since the machine was started. */
export const machineClockMs = (): number => {
  const [seconds] = readFileSync('/proc/uptime', 'utf8').split(' ');
  return Number(seconds) * 1_000;
};

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** @throws {Error} when it cannot be written */
export const writeDeadlines = (file: string, deadlines: Deadlines, lastLength = 0): number => {
  const text = JSON.stringify({ bootId: bootId(), deadlines });
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const handle = openSync(file, 'a+');
  closeSync(handle);
  const place = openSync(file, 'r+');
  try {
    // Blanks take the place of what was longer before.
    writeSync(place, text.padEnd(lastLength), 0);
  } finally {
    closeSync(place);
  }
  return text.length;
};

/** @returns undefined when it cannot be read now; a reader that was in the middle of a write may try again */
export const readDeadlines = (file: string): Deadlines | undefined => {
  try {
    const read = JSON.parse(readFileSync(file, 'utf8')) as {
      readonly bootId?: unknown;
      readonly deadlines?: unknown;
    };
    if (read.bootId !== bootId()) return {};
    if (typeof read.deadlines !== 'object' || read.deadlines === null) return undefined;
    return Object.fromEntries(
      Object.entries(read.deadlines).filter(
        (entry): entry is [string, number] => typeof entry[1] === 'number' && Number.isFinite(entry[1]),
      ),
    );
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? {} : undefined;
  }
};
