/**
 * The workflows as a bundle, made once for all test files and kept as long as the sources do not change.
 *
 * Invariant: a bundle appears in the cache by one rename, so that runs side by side never read half of one.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';

const ROOT = resolve(__dirname, '..', '..');
const SOURCES = ['domain', 'contracts', 'workflows', 'test/workflow', 'test/replay'];
const CONVERTERS = join(ROOT, 'workflows', 'readable-payloads.ts');
const SHORT_TIMEOUTS = join(__dirname, 'short-timeouts.ts');

const hashOfSources = (entry: string): string => {
  const hash = createHash('sha256').update(entry).update(process.version);
  hash.update(readFileSync(join(ROOT, 'package-lock.json')));
  for (const folder of SOURCES) {
    const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
      .sort();
    for (const file of files) hash.update(file).update(readFileSync(join(ROOT, folder, file)));
  }
  return hash.digest('hex').slice(0, 24);
};

export interface BundleOptions {
  /** File that exports the workflows. */
  readonly workflowsPath?: string;
  /** Whether time limits are shortened (short-timeouts.ts). */
  readonly shortTimeouts?: boolean;
}

/** @returns the path of the bundle */
export const workflowBundle = async (options: BundleOptions = {}): Promise<string> => {
  const { workflowsPath = join(ROOT, 'workflows', 'index.ts'), shortTimeouts = false } = options;
  const folder = join(tmpdir(), 'containeros-test-bundles');
  const path = join(folder, `${hashOfSources(`${workflowsPath} ${shortTimeouts}`)}.js`);
  if (existsSync(path)) return path;
  const { code } = await bundleWorkflowCode({
    workflowsPath,
    payloadConverterPath: CONVERTERS,
    failureConverterPath: CONVERTERS,
    logger: new DefaultLogger('ERROR'),
    webpackConfigHook: (config) => ({
      ...config,
      resolve: {
        ...config.resolve,
        alias: {
          ...config.resolve?.alias,
          ...(shortTimeouts ? { '../contracts/timeouts$': SHORT_TIMEOUTS } : {}),
        },
      },
    }),
  });
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${path}.${process.pid}`, code);
  renameSync(`${path}.${process.pid}`, path);
  return path;
};
