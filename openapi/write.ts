/** Writes openapi/openapi.json below the working directory: `npm run openapi`. A test fails while it is stale. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { buildOpenApiDocument } from './build-document';

const root = process.cwd();
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
writeFileSync(
  join(root, 'openapi', 'openapi.json'),
  `${JSON.stringify(buildOpenApiDocument(version), null, 2)}\n`,
);
