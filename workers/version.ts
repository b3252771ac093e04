/** The version of ContainerOS, from its package. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** This file is dist/workers/version.js when it runs. */
const MANIFEST = join(__dirname, '..', '..', 'package.json');

export const version = (): string =>
  (JSON.parse(readFileSync(MANIFEST, 'utf8')) as { readonly version: string }).version;
