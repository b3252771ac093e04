/**
 * JSON text to a value, for text that anybody may have sent.
 *
 * Invariants: what is refused is refused with its line and column; nesting is bounded before anything recursive sees
 * the value; a key that is there twice is an error, because one of the two would be dropped without a word.
 */

import { ContainerOsError } from '../domain/errors';

export const MAX_DEPTH = 64;

class Refusal extends Error {
  constructor(
    readonly at: number,
    message: string,
  ) {
    super(message);
  }
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const LITERAL = /true|false|null/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const SPACE = /[ \t\r\n]*/y;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const FIRST_PRINTABLE = 0x20;

const show = (text: string, at: number): string =>
  at >= text.length ? 'the end of the text' : JSON.stringify(String.fromCodePoint(text.codePointAt(at) ?? 0));

/** Where a token that matches ends. */
const endOf = (pattern: RegExp, text: string, at: number): number | undefined => {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : undefined;
};

const skipSpace = (text: string, at: number): number => endOf(SPACE, text, at) ?? at;

const skipString = (text: string, start: number): number => {
  if (text.charCodeAt(start) !== QUOTE) {
    throw new Refusal(start, `expected a key in double quotes, found ${show(text, start)}`);
  }
  let at = start + 1;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) return at + 1;
    if (code < FIRST_PRINTABLE) throw new Refusal(at, 'a line break or control character inside a text');
    if (code === BACKSLASH) {
      const next = endOf(ESCAPE, text, at);
      if (next === undefined) throw new Refusal(at, 'a backslash that begins no escape sequence');
      at = next;
    } else at += 1;
  }
  throw new Refusal(start, 'a text that is not ended by double quotes');
};

type Frame = { readonly close: '}'; readonly keys: Set<string> } | { readonly close: ']' };

const skipKey = (text: string, start: number, keys: Set<string>): number => {
  const end = skipString(text, start);
  const key = JSON.parse(text.slice(start, end)) as string;
  if (keys.has(key))
    throw new Refusal(start, `the key ${JSON.stringify(key.slice(0, 60))} for the second time`);
  keys.add(key);
  const colon = skipSpace(text, end);
  if (text[colon] !== ':') throw new Refusal(colon, `expected a colon, found ${show(text, colon)}`);
  return skipSpace(text, colon + 1);
};

/** Reads through the text once; what it lets pass, JSON.parse takes too. */
const check = (text: string): void => {
  const stack: Frame[] = [];
  let at = skipSpace(text, 0);
  for (;;) {
    // A value begins here.
    const opening = text[at];
    if (opening === '{' || opening === '[') {
      if (stack.length >= MAX_DEPTH) throw new Refusal(at, `nesting deeper than ${MAX_DEPTH} levels`);
      const frame: Frame = opening === '{' ? { close: '}', keys: new Set() } : { close: ']' };
      at = skipSpace(text, at + 1);
      if (text[at] !== frame.close) {
        stack.push(frame);
        if (frame.close === '}') at = skipKey(text, at, frame.keys);
        continue;
      }
      at += 1;
    } else if (opening === '"') at = skipString(text, at);
    else {
      const end = endOf(NUMBER, text, at) ?? endOf(LITERAL, text, at);
      if (end === undefined) throw new Refusal(at, `expected a value, found ${show(text, at)}`);
      at = end;
    }
    // A value has ended: so may the objects and lists around it.
    at = skipSpace(text, at);
    let frame = stack.at(-1);
    while (frame !== undefined && text[at] === frame.close) {
      stack.pop();
      at = skipSpace(text, at + 1);
      frame = stack.at(-1);
    }
    if (frame === undefined) {
      if (at < text.length) throw new Refusal(at, `expected nothing more, found ${show(text, at)}`);
      return;
    }
    if (text[at] !== ',')
      throw new Refusal(at, `expected a comma or ${frame.close}, found ${show(text, at)}`);
    at = skipSpace(text, at + 1);
    if (frame.close === '}') at = skipKey(text, at, frame.keys);
  }
};

/**
 * @param text what the client sent
 * @throws {ContainerOsError} `invalid`, with the line and the column
 */
export const parseJsonText = (text: string): unknown => {
  try {
    check(text);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const before = text.slice(0, error.at);
    const line = before.split('\n').length;
    const column = error.at - (before.lastIndexOf('\n') + 1) + 1;
    const where = `line ${line}, column ${column}`;
    throw new ContainerOsError('invalid', `The body is not valid JSON: ${where}: ${error.message}.`, [
      { path: '', message: `is not valid JSON at ${where} (position ${error.at}): ${error.message}` },
    ]);
  }
  return JSON.parse(text);
};
