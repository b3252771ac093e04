/** The JSON reader takes what JSON.parse takes, and nothing else; but for depth and keys that are there twice. */

import fc from 'fast-check';

import { MAX_DEPTH, parseJsonText } from '../../../api/json-text';
import { mergePatch } from '../../../api/merge-patch';

const outcomeOf = (parse: (text: string) => unknown, text: string) => {
  try {
    return { value: parse(text) };
  } catch {
    return 'refused';
  }
};

test('takes every JSON document, in any spelling', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent);
      expect(parseJsonText(text)).toEqual(JSON.parse(text));
    }),
  );
});

test('refuses what JSON.parse refuses', () => {
  const piece = fc.constantFrom(
    ...[
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '"a"',
      '"\\n"',
      '\\',
      'true',
      'null',
      'nul',
      '1',
      '-',
      '0.5',
      '01',
      '1e',
      '1e+3',
      ' ',
      '\n',
      '\u0001',
    ],
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join('');
      const expected = outcomeOf(JSON.parse, text);
      const actual = outcomeOf(parseJsonText, text);
      const isTwice = actual === 'refused' && expected !== 'refused' && /"a"[^]*"a"/.test(text);
      if (!isTwice) expect(actual).toEqual(expected);
    }),
    { numRuns: 5_000 },
  );
});

test('cuts anything anywhere', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.nat(), (value, at) => {
      const text = JSON.stringify({ value });
      expect(outcomeOf(parseJsonText, text.slice(0, at % text.length))).toBe('refused');
    }),
  );
});

test('takes as many levels as it says', () => {
  const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
  expect(() => parseJsonText(nested(MAX_DEPTH))).not.toThrow();
  expect(() => parseJsonText(nested(MAX_DEPTH + 1))).toThrow(/deeper/);
});

test('a key that is there twice is found in its own object only', () => {
  expect(parseJsonText('{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}')).toBeDefined();
  expect(() => parseJsonText('{"a": 1, "\\u0061": 2}')).toThrow(/second time/);
});

describe('merge patch, as the examples of RFC 7396', () => {
  test.each([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('%j with %j is %j', (target, patch, merged) => {
    const before = JSON.stringify([target, patch]);
    expect(mergePatch(target, patch)).toEqual(merged);
    expect(JSON.stringify([target, patch])).toBe(before);
  });
});
