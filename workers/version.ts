/** The version of ContainerOS, from its package. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** This file is dist/workers/version.js when the product runs, and workers/version.ts in tests. */
const MANIFEST =
  ['..', '../..'].map((up) => join(__dirname, up, 'package.json')).find((file) => existsSync(file)) ??
  'package.json';

export const version = (): string =>
  (JSON.parse(readFileSync(MANIFEST, 'utf8')) as { readonly version: string }).version;
