/** The committed OpenAPI document is the one that the code makes, and describes the routes that there are. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Express } from 'express';
import { Registry } from 'prom-client';

import type { ApiDeps } from '../../../api/api-deps';
import { createApp } from '../../../api/create-app';
import { ERROR_TABLE } from '../../../domain/errors';
import { buildOpenApiDocument } from '../../../openapi/build-document';
import { PATH_OPERATIONS } from '../../../openapi/paths';
import { parseDurationMs, parseSinceMs } from '../../../openapi/parameters';

import { startApi } from './api-under-test';

const root = join(__dirname, '..', '..', '..');
const read = (path: string): unknown => JSON.parse(readFileSync(join(root, path), 'utf8'));
const { version } = read('package.json') as { version: string };

test('openapi/openapi.json is fresh (npm run openapi makes it)', () => {
  expect(read('openapi/openapi.json')).toEqual(JSON.parse(JSON.stringify(buildOpenApiDocument(version))));
});

interface Layer {
  readonly route?: { readonly path: string | readonly string[] };
}

/** Enough for an application that is looked at and never asked. */
const bareApp = (): Express =>
  createApp({
    config: {
      version: '0',
      password: 'x',
      internalToken: 'y',
      allowedHosts: [],
      allowHostAccess: false,
      temporalNamespace: 'default',
    },
    metrics: new Registry(),
    closing: new AbortController().signal,
    nowMs: () => 0,
    readModel: {},
  } as unknown as ApiDeps);

test('every path of the application is described, and every described one is there', () => {
  const { stack } = bareApp().router as unknown as { readonly stack: readonly Layer[] };
  const paths = stack
    .flatMap(({ route }) => (route === undefined ? [] : [route.path].flat()))
    .filter((path) => !path.startsWith('/internal/'))
    // The name by which first users know it.
    .filter((path) => path !== '/v1/microservice' && !path.startsWith('/v1/microservice/'))
    .map((path) => path.replace(/:(\w+)/g, '{$1}'));
  const described = new Set(PATH_OPERATIONS.map(({ path }) => path));
  expect([...paths].sort()).toEqual([...described].sort());
});

test('every described method is taken, and no other one', async () => {
  const api = await startApi();
  try {
    for (const path of new Set(PATH_OPERATIONS.map((operation) => operation.path))) {
      const described = PATH_OPERATIONS.filter((operation) => operation.path === path).map(({ method }) =>
        method.toUpperCase(),
      );
      const answer = await api.call('OPTIONS', path.replace(/\{\w+\}/g, 'some'));
      const allowed = (answer.headers['allow'] ?? '').split(', ');
      expect(allowed.filter((method) => method !== 'HEAD' && method !== 'OPTIONS')).toEqual(
        [...described].sort(),
      );
    }
  } finally {
    await api.close();
  }
});

test('operation ids are unique, and each error is one of the table', () => {
  const ids = PATH_OPERATIONS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const { errors } of PATH_OPERATIONS)
    for (const code of errors) expect(ERROR_TABLE).toHaveProperty(code);
});

test('references lead somewhere', () => {
  const document = buildOpenApiDocument(version) as { components: Record<string, Record<string, unknown>> };
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/(\w+)\/(\w+)"/g)];
  expect(references.length).toBeGreaterThan(50);
  for (const [, kind = '', name = ''] of references) expect(document.components[kind]).toHaveProperty(name);
});

test.each([
  ['30', 30_000],
  ['30s', 30_000],
  ['500ms', 500],
  ['2m', 120_000],
  ['1h', 3_600_000],
  ['', undefined],
  ['-1', undefined],
  ['1d', undefined],
  ['1.5s', undefined],
])('the duration %j is %p ms', (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms);
});

test.each([
  ['10m', 400_000],
  ['1970-01-01T00:00:05Z', 5_000],
  ['1970-01-01', 0],
  ['yesterday', undefined],
  ['2020-99-99', undefined],
])('since %j is %p', (text, ms) => {
  expect(parseSinceMs(text, 1_000_000)).toBe(ms);
});
