/** The import table of docs/architecture.md is enforced: for each folder, an import that it must not have is an error. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(__dirname, '..', '..', '..');

/** A file that exists in each folder (typed lint knows only those), one import that breaks the table, one that does not. */
const CASES: readonly {
  readonly file: string;
  readonly banned: readonly string[];
  readonly allowed: readonly string[];
  /** What may be imported as a type only. */
  readonly types?: readonly string[];
}[] = [
  {
    file: 'domain/errors.ts',
    banned: [
      '../contracts/kv',
      '../workflows/converge',
      '../api/problem',
      'zod',
      'node:fs',
      '@temporalio/workflow',
    ],
    allowed: ['./model'],
  },
  { file: 'domain/spec/schema.ts', banned: ['../../contracts/kv', 'pino'], allowed: ['zod', '../errors'] },
  {
    file: 'contracts/kv.ts',
    banned: ['../workflows/converge', '../adapters/consul/kv-store'],
    allowed: ['../domain/model'],
  },
  {
    file: 'workflows/converge.ts',
    banned: [
      '../activities/cluster-activities',
      '../adapters/consul/kv-store',
      '@temporalio/client',
      'node:fs',
      'zod',
    ],
    allowed: ['@temporalio/workflow', '@temporalio/common', '../contracts/kv', '../domain/errors'],
  },
  {
    file: 'activities/cluster-activities.ts',
    banned: ['../adapters/consul/kv-store', '../workflows/converge', 'dockerode'],
    allowed: ['@temporalio/activity', '../contracts/kv'],
  },
  {
    file: 'adapters/consul/kv-store.ts',
    banned: ['../../workflows/converge', '../../api/problem', '../../workers/config'],
    allowed: ['consul', '../../contracts/kv'],
  },
  {
    file: 'api/problem.ts',
    banned: [
      '../workflows/converge',
      '../adapters/consul/kv-store',
      '../workers/config',
      '../activities/cluster-activities',
      '../cli/run',
    ],
    allowed: ['express', '../contracts/kv', '../domain/errors'],
  },
  {
    file: 'cli/run.ts',
    banned: [
      '../domain/errors',
      '../contracts/kv',
      '../api/problem',
      '../workers/config',
      '../openapi/schemas',
      'zod',
      'pino',
    ],
    allowed: ['node:util', './words'],
    types: ['../openapi/schemas'],
  },
];

const RULE = '@typescript-eslint/no-restricted-imports';

const importing = (imported: string) => `import * as one from '${imported}';\nexport const two = one;\n`;
const importingTypes = (imported: string) =>
  `import type * as one from '${imported}';\nexport type Two = typeof one;\n`;

/** The rules that each snippet breaks. */
const lint = (snippets: readonly { readonly file: string; readonly code: string }[]): readonly string[][] =>
  JSON.parse(
    execFileSync(process.execPath, [join(__dirname, 'lint-snippets.mjs')], {
      input: JSON.stringify(snippets),
      encoding: 'utf8',
    }),
  ) as string[][];

describe('the import table', () => {
  test('holds for each folder', () => {
    const imports = CASES.flatMap(({ file, banned, allowed, types = [] }) => [
      ...banned.map((imported) => ({ file, code: importing(imported), isBanned: true })),
      ...allowed.map((imported) => ({ file, code: importing(imported), isBanned: false })),
      ...types.map((imported) => ({ file, code: importingTypes(imported), isBanned: false })),
    ]);
    const broken = lint(imports.map(({ file, code }) => ({ file, code })));
    expect(imports.map((one, index) => ({ ...one, isBanned: broken[index]?.includes(RULE) }))).toEqual(
      imports,
    );
  }, 60_000);

  test('keeps the clock, chance and the process out of domain/', () => {
    const uses = ['Date.now()', 'new Date()', 'Math.random()', 'process.env'];
    const broken = lint(
      uses.map((use) => ({ file: 'domain/errors.ts', code: `export const value: unknown = ${use};\n` })),
    );
    expect(uses.filter((_, index) => broken[index]?.length === 0)).toEqual([]);
  }, 60_000);

  test('stands in docs/architecture.md, a row for each folder', () => {
    const page = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
    for (const folder of [
      'domain',
      'contracts',
      'workflows',
      'activities',
      'adapters',
      'api',
      'cli',
      'workers',
    ]) {
      expect(page).toContain(`| \`${folder}\``);
    }
  });
});
