/** Documents that have to say what the code says, compared both ways. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ERROR_TABLE, type ErrorRow } from '../../../domain/errors';
import { parseMicroserviceSpec } from '../../../domain/spec/parse';
import { microserviceSpecSchema } from '../../../domain/spec/schema';

const read = (name: string) => readFileSync(join(__dirname, '../../../docs', name), 'utf8');

/** Cells of all table rows whose first cell is a code. */
const rowsOf = (markdown: string): readonly (readonly string[])[] =>
  markdown
    .split('\n')
    .filter((line) => /^\| `/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );

test('docs/errors.md lists exactly the error table', () => {
  const documented = rowsOf(read('errors.md')).map(([code, status, retryable, exitCode, title]) => [
    code?.replaceAll('`', ''),
    { status: Number(status), retryable: retryable === 'yes', exitCode: Number(exitCode), title },
  ]);
  const table: Record<string, ErrorRow> = ERROR_TABLE;
  expect(new Set(documented.map(([code]) => code)).size).toBe(documented.length);
  expect(Object.fromEntries(documented)).toEqual(table);
  for (const row of rowsOf(read('errors.md'))) expect(row[5]).toMatch(/\w.*\.$/);
});

/** Every key that a user can write, at any depth. */
const keysOf = (schema: unknown): readonly string[] => {
  if (schema instanceof z.ZodOptional) return keysOf(schema.unwrap());
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(keysOf);
  if (schema instanceof z.ZodRecord) return keysOf(schema.valueType);
  if (schema instanceof z.ZodArray) return keysOf(schema.element);
  if (!(schema instanceof z.ZodObject)) return [];
  return Object.entries(schema.shape).flatMap(([key, value]) => [key, ...keysOf(value)]);
};

test('docs/specification.md names exactly the keys of the schema', () => {
  const text = read('specification.md');
  const keys = new Set(keysOf(microserviceSpecSchema));
  expect([...keys].filter((key) => !text.includes(`\`${key}\``))).toEqual([]);
  const documented = rowsOf(text).map(([key]) => key?.replaceAll('`', '') ?? '');
  expect(documented.filter((key) => !keys.has(key))).toEqual([]);
});

test('every whole example of docs/specification.md is a specification', () => {
  const examples = [...read('specification.md').matchAll(/^```json\n(\{.*?\n\})\n```$/gms)].map(
    ([, json = '']) => json,
  );
  const whole = examples.filter((json) => json.includes('"containers"'));
  expect(whole.length).toBeGreaterThan(1);
  for (const json of whole) {
    const outcome = parseMicroserviceSpec(JSON.parse(json), { allowHostAccess: false });
    expect({ json, outcome }).toMatchObject({ outcome: { kind: 'ok' } });
  }
});
