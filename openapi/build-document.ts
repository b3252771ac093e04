/** Builds the OpenAPI 3.1 document. Pure: the same code gives the same document, which is committed. */

import type { z } from 'zod';

import { ERROR_TABLE, type ErrorCode } from '../domain/errors';

import { componentSchemas, parameterSchema, ref, type JsonSchema } from './components';
import {
  PATH_OPERATIONS,
  type HeaderName,
  type PathAnswer,
  type PathOperation,
  type RequestHeaderName,
} from './paths';

const PROBLEM_JSON = 'application/problem+json';

const HEADERS: Readonly<Record<HeaderName, JsonSchema>> = {
  ETag: {
    description: 'The generation of the microservice, for If-Match.',
    schema: { type: 'string' },
    example: '"3"',
  },
  Location: { description: 'Where the operation is.', schema: { type: 'string' } },
  'X-ContainerOS-Index': {
    description: 'The version of what is answered, for `?watch=`.',
    schema: { type: 'string' },
  },
  'X-ContainerOS-Stale-Since': {
    description: 'Only while Consul does not answer: since when what is shown may be old.',
    schema: { type: 'string' },
  },
};

const REQUEST_HEADERS: Readonly<Record<RequestHeaderName, JsonSchema>> = {
  'If-Match': {
    description:
      'The ETag that was answered before: refused with 412 when somebody has changed it since. `*`: it must exist.',
    schema: { type: 'string', pattern: '^(\\*|"[0-9]{1,15}")$' },
    example: '"3"',
  },
  'If-None-Match': {
    description: '`*`: it must not exist yet.',
    schema: { type: 'string', const: '*' },
  },
  'Idempotency-Key': {
    description: 'The same request with the same key is answered with the operation of the first time.',
    schema: { type: 'string', pattern: '^[\\x21-\\x7e]{1,255}$' },
    example: 'b7c1e0f2',
  },
  'Last-Event-ID': {
    description: 'The id of the last event that was received; browsers send it by themselves.',
    schema: { type: 'string', pattern: '^[0-9]{15}-[A-Za-z0-9_-]{1,64}$' },
    example: '001738324800000-1f0c9a77',
  },
};

/** Of parameters in paths, by name. Anything may be asked for; what is not there is not found. */
const PATH_PARAMETERS: Readonly<Record<string, JsonSchema>> = {
  name: { description: 'Name of a microservice; letters count without case.', example: 'test-server' },
  id: { description: 'Its id.' },
  release: { description: 'Number of a release.', example: '1' },
};

const EVERYWHERE: readonly ErrorCode[] = ['invalid', 'forbidden', 'method_not_allowed', 'internal'];
const WITH_PASSWORD: readonly ErrorCode[] = ['unauthenticated', 'rate_limited'];

const headerComponent = (name: string): string => name.replaceAll('-', '');

const pathParameters = (path: string): JsonSchema[] =>
  [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string', minLength: 1 },
    ...PATH_PARAMETERS[name],
  }));

const queryParameters = (query: z.ZodObject): JsonSchema[] =>
  Object.entries(query.shape).map(([name, schema]) => {
    const { description, example, ...rest } = parameterSchema(schema as z.ZodType);
    return {
      name,
      in: 'query',
      required: false,
      ...(description === undefined ? {} : { description }),
      schema: rest,
      ...(example === undefined ? {} : { example }),
    };
  });

const requestHeaders = (names: readonly RequestHeaderName[]): JsonSchema[] =>
  names.map((name) => ({ name, in: 'header', required: false, ...REQUEST_HEADERS[name] }));

const schemaOf = (content: PathAnswer['content'][string]): JsonSchema => {
  if (content === 'text') return { type: 'string' };
  if (content === 'json') return { type: 'object' };
  return typeof content === 'string' ? ref(content) : { anyOf: content.map(ref) };
};

const answerOf = ({ description, content, headers = [] }: PathAnswer): JsonSchema => ({
  description,
  ...(headers.length === 0
    ? {}
    : {
        headers: Object.fromEntries(
          headers.map((name) => [name, { $ref: `#/components/headers/${headerComponent(name)}` }]),
        ),
      }),
  content: Object.fromEntries(Object.entries(content).map(([type, of]) => [type, { schema: schemaOf(of) }])),
});

const errorsOf = ({ errors, open }: PathOperation): Readonly<Record<string, JsonSchema>> => {
  const codes = new Set([...EVERYWHERE, ...(open === true ? [] : WITH_PASSWORD), ...errors]);
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codes) {
    const { status } = ERROR_TABLE[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, ofStatus]) => [
      String(status),
      {
        description: ofStatus.map((code) => `\`${code}\`: ${ERROR_TABLE[code].title}.`).join(' '),
        content: { [PROBLEM_JSON]: { schema: ref('Problem') } },
      },
    ]),
  );
};

const operationOf = (operation: PathOperation): JsonSchema => {
  const parameters = [
    ...pathParameters(operation.path),
    ...queryParameters(operation.query),
    ...requestHeaders(operation.headers ?? []),
  ];
  return {
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    ...(operation.description === undefined ? {} : { description: operation.description }),
    ...(operation.open === true ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(operation.body === undefined
      ? {}
      : {
          requestBody: {
            required: operation.body.required,
            content: { 'application/json': { schema: ref(operation.body.component) } },
          },
        }),
    responses: {
      ...Object.fromEntries(
        Object.entries(operation.answers).map(([status, answer]) => [status, answerOf(answer)]),
      ),
      ...errorsOf(operation),
    },
  };
};

/** @param version of ContainerOS */
export const buildOpenApiDocument = (version: string): JsonSchema => {
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const operation of PATH_OPERATIONS) {
    (paths[operation.path] ??= {})[operation.method] = operationOf(operation);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'ContainerOS',
      version,
      description:
        'A container management system for developers. Changes are answered with the operation that carries them out: 202 when it is accepted and durable, or with `?wait=30s` when it has ended. Errors are problem+json (RFC 9457).',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [
      { url: '/', description: 'The API that serves this document; by default http://127.0.0.1:8000.' },
    ],
    security: [{ bearer: [] }, { basic: [] }, { query: [] }],
    tags: [
      { name: 'Microservices', description: 'What you want to run.' },
      { name: 'Operations', description: 'Deploys, scales and the like, each with its plan and its end.' },
      { name: 'Replicas', description: 'What runs.' },
      { name: 'Nodes', description: 'Where it runs.' },
      { name: 'Certificates', description: 'HTTPS of hostnames.' },
      { name: 'Events', description: 'What happens.' },
      { name: 'System', description: 'ContainerOS itself.' },
    ],
    paths,
    components: {
      schemas: componentSchemas(),
      headers: Object.fromEntries(
        Object.entries(HEADERS).map(([name, header]) => [headerComponent(name), header]),
      ),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'The password.' },
        basic: { type: 'http', scheme: 'basic', description: 'The password, with any user.' },
        query: {
          type: 'apiKey',
          in: 'query',
          name: 'password',
          description: 'The password; ends up in histories and logs.',
        },
      },
    },
  };
};
