/**
 * Runs Schemathesis against an API: requests made from its OpenAPI document, good and bad, and each answer compared
 * with what the document promises.
 *
 * Invariants: the same document makes the same requests; it ends in bounded time whatever the API does; the program is the
 * one that `npm test` sets up.
 */

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { findPythonProgram } from '../support/programs';

export interface FuzzOptions {
  /** Of the API, like http://127.0.0.1:8000. */
  readonly url: string;
  readonly password: string;
  /** Requests made at random for each operation, beside those that are made of the document's edges. */
  readonly maxExamples: number;
  /** Ends the run when it takes longer. */
  readonly timeoutMs: number;
  /** Checks that make no sense for this API. */
  readonly excludeChecks?: readonly string[];
  readonly phases?: readonly ('examples' | 'coverage' | 'fuzzing' | 'stateful')[];
  readonly headers?: Readonly<Record<string, string>>;
}

export interface FuzzResult {
  readonly passed: boolean;
  /** What Schemathesis says, for people. */
  readonly output: string;
}

export const fuzz = (options: FuzzOptions): Promise<FuzzResult> => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-fuzz-'));
  const excluded = options.excludeChecks ?? [];
  const args = [
    ...['--config-file', join(__dirname, 'schemathesis.toml')],
    ...['run', `${options.url}/openapi.json`],
    ...['--url', options.url],
    ...['--header', `Authorization: Bearer ${options.password}`],
    ...Object.entries(options.headers ?? {}).flatMap(([name, value]) => ['--header', `${name}: ${value}`]),
    ...['--phases', (options.phases ?? ['examples', 'coverage', 'fuzzing', 'stateful']).join(',')],
    ...['--max-examples', String(options.maxExamples)],
    '--generation-deterministic',
    ...(excluded.length === 0 ? [] : ['--exclude-checks', excluded.join(',')]),
    ...['--request-timeout', '10'],
    '--continue-on-failure',
    ...['--warnings', 'off'],
    '--no-color',
  ];
  return new Promise((resolve) => {
    execFile(
      findPythonProgram('st'),
      args,
      {
        cwd: folder,
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: 64 * 1024 * 1024,
        env: { ...process.env, SCHEMATHESIS_HOOKS: join(__dirname, 'hooks.py') },
      },
      (error, stdout, stderr) => {
        rmSync(folder, { recursive: true, force: true });
        const late = error?.killed === true ? `\nIt did not end within ${options.timeoutMs / 1_000} s.` : '';
        resolve({ passed: error === null, output: `${stdout}${stderr}${late}` });
      },
    );
  });
};
