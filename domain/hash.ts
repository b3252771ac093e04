/**
 * Hashes instead of chance: the same text gives the same choice, on every machine and in every replay. Not for
 * secrets.
 */

/** FNV-1a over UTF-16 units with a final mix, so that texts that differ in their end only are spread as well. */
const hash32 = (text: string, basis: number): number => {
  let hash = basis >>> 0;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
};

/** @returns a number from 0 to 2^52 - 1 that stands for the text */
export const hashText = (text: string): number =>
  (hash32(text, 0x811c9dc5) & 0xfffff) * 2 ** 32 + hash32(text, 0x9747b28c);

const SHORT_ID_LENGTH = 6;
const LONG_ID_LENGTH = 11;

/** @returns six characters of a-z and 0-9 that stand for the text */
export const shortId = (text: string): string =>
  (hashText(text) % 36 ** SHORT_ID_LENGTH).toString(36).padStart(SHORT_ID_LENGTH, '0');

/** @returns eleven characters of a-z and 0-9 that stand for the text */
export const longId = (text: string): string => hashText(text).toString(36).padStart(LONG_ID_LENGTH, '0');
