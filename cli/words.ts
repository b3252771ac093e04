/**
 * Words for people: numbers with their nouns, sizes, times, tables. Pure.
 *
 * Invariants: nothing that came from elsewhere reaches a terminal as anything but visible text; there are no colours,
 * so that a pipe gets what a terminal shows.
 */

/** Control characters, and those that change the direction of what follows. */
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** As it may stand in a line: line breaks become blanks, and what would drive a terminal becomes visible. */
export const oneLine = (text: string): string =>
  text.replace(/\s*[\r\n]+\s*|\t/g, ' ').replace(UNSEEN, '\ufffd');

/** The same for text of several lines. */
export const manyLines = (text: string): string =>
  text
    .split('\n')
    .map((line) => oneLine(line))
    .join('\n');

/** `1 replica`, `2 replicas`. */
export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;

const BYTE_UNITS = [
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['kB', 1e3],
] as const;

const unitOf = (bytes: number): readonly [unit: string, size: number] =>
  BYTE_UNITS.find(([, size]) => bytes >= size) ?? ['bytes', 1];

const inUnit = (bytes: number, size: number): string => (bytes / size).toFixed(size === 1 ? 0 : 1);

/** `8.0 GB`; a GB is 1,000,000,000 bytes, as in specifications. */
export const bytesInWords = (bytes: number): string => {
  const [unit, size] = unitOf(bytes);
  return `${inUnit(bytes, size)} ${unit}`;
};

/** `2.0 of 8.0 GB` */
export const shareInWords = (usedBytes: number, totalBytes: number): string => {
  const [unit, size] = unitOf(totalBytes);
  return `${inUnit(Math.max(0, usedBytes), size)} of ${inUnit(totalBytes, size)} ${unit}`;
};

/** At most two digits after the point, and none that say nothing. */
export const numberInWords = (number: number): string => String(Math.round(number * 100) / 100);

const TIME_UNITS = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
] as const;

/** In one unit, which is enough to act on: `3 hours`, and from two days on in days. */
export const durationInWords = (durationMs: number): string => {
  const [noun, sizeMs] = TIME_UNITS.find(([name, size]) => durationMs >= size * (name === 'day' ? 2 : 1)) ?? [
    'second',
    1_000,
  ];
  return count(Math.round(durationMs / sizeMs), noun);
};

/** `in 1 hour`, `3 minutes ago` */
export const fromNowInWords = (atMs: number, nowMs: number): string =>
  atMs > nowMs ? `in ${durationInWords(atMs - nowMs)}` : `${durationInWords(nowMs - atMs)} ago`;

/** `2026-01-01 00:00:00 UTC` */
export const timeInWords = (iso: string): string => iso.replace(/T/, ' ').replace(/(\.\d+)?Z$/, ' UTC');

/** `a`, `a and b`, `a, b and c` */
export const listInWords = (items: readonly string[]): string =>
  items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items[items.length - 1] ?? ''}`;

export interface Column {
  readonly title: string;
  readonly align?: 'right';
}

const GAP = '  ';

/** Columns as wide as their widest cell; the last one ends where its text ends. */
export const table = (columns: readonly Column[], rows: readonly (readonly string[])[]): string => {
  const lines = [columns.map(({ title }) => title), ...rows.map((row) => row.map(oneLine))];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => (line[index] ?? '').length)));
  return lines
    .map((line) =>
      columns
        .map(({ align }, index) => {
          const [cell, width] = [line[index] ?? '', widths[index] ?? 0];
          return align === 'right' ? cell.padStart(width) : cell.padEnd(width);
        })
        .join(GAP)
        .trimEnd(),
    )
    .join('\n');
};

/** Names and what stands for them, one a line, indented. */
export const pairs = (entries: readonly (readonly [name: string, value: string])[]): string => {
  const width = Math.max(...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${GAP}${name.padEnd(width)}${GAP}${oneLine(value)}`).join('\n');
};
