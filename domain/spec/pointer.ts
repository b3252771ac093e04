/** JSON pointers (RFC 6901): the place of a problem in a document. */

const escapeToken = (token: string): string => token.replaceAll('~', '~0').replaceAll('/', '~1');

/** @returns the pointer of the member or item `key` of what `pointer` points at */
export const appendPointer = (pointer: string, key: PropertyKey): string =>
  `${pointer}/${escapeToken(String(key))}`;

/** @returns the pointer of a path of keys; '' is the whole document */
export const toPointer = (path: readonly PropertyKey[]): string => path.reduce<string>(appendPointer, '');

/** @returns the keys that a pointer names */
export const fromPointer = (pointer: string): readonly string[] =>
  pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
