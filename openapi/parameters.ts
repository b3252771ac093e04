/**
 * Query parameters of every path, as zod schemas: what api/ parses requests with, and what the OpenAPI document says.
 *
 * Invariants: a query parameter comes in as text; an unknown one is an error, because a mistyped `?wiat=` that is
 * passed over would be found out much later; `password` is taken off before these schemas see the query.
 */

import { z } from 'zod';

import {
  microserviceStateSchema,
  operationKindSchema,
  operationStateSchema,
  replicaStateSchema,
} from './schemas';

export const MAX_WAIT_MS = 10 * 60_000;
const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

/** @returns milliseconds of `30`, `30s`, `500ms`, `2m` or `1h`; undefined when it is none of these */
export const parseDurationMs = (text: string): number | undefined => {
  const match = /^([0-9]{1,9})(ms|s|m|h)?$/.exec(text);
  if (!match) return undefined;
  return Number(match[1]) * UNIT_MS[(match[2] ?? 's') as keyof typeof UNIT_MS];
};

const DURATION = /^[0-9]{1,9}(ms|s|m|h)?$/;
const DURATION_WORDS = 'must be a duration like 30, 30s, 500ms or 2m, with a number of 9 digits at most';
const duration = (what: string) =>
  z
    .string()
    .regex(DURATION, { message: DURATION_WORDS })
    .meta({
      description: `${what} A number of seconds, or with a unit: 500ms, 30s, 2m, 1h.`,
      example: '30s',
    });

const wholeNumber = (what: string, digits: number) =>
  z
    .string()
    .regex(new RegExp(`^[0-9]{1,${digits}}$`), {
      message: `must be a whole number from 0 to ${10 ** digits - 1}`,
    })
    .meta({ description: what, example: '100' });

const flag = (what: string) =>
  z
    .enum(['true', 'false', '1', '0', ''], { message: 'must be true or false' })
    .meta({ description: what, example: 'true' });

const name = (what: string) => z.string().max(253).meta({ description: what });

export const waitQuery = {
  wait: duration('Wait until the operation has ended, for that long at most (10m).').optional(),
};

export const watchQuery = {
  watch: wholeNumber('Wait until there is something newer than this `index`.', 15).optional(),
  timeout: duration('How long to wait with `watch` at most; 60s when left out, 10m at most.').optional(),
};

export const limitQuery = {
  limit: z
    .string()
    .regex(/^0{0,4}[1-9][0-9]{0,4}$/, { message: 'must be a whole number from 1 to 99999' })
    .meta({ description: 'How many at most.', example: '100' })
    .optional(),
};

const pageQuery = {
  ...limitQuery,
  after: name(
    'Only what comes after the one with this name or id: the `next` of the page before.',
  ).optional(),
};

export const microserviceListQuery = z.strictObject({
  state: microserviceStateSchema.optional(),
  node: name('Only those with a replica on this node.').optional(),
  ...pageQuery,
  ...watchQuery,
});

export const microserviceQuery = z.strictObject({ ...watchQuery });

export const removeNodeQuery = z.strictObject({
  force: flag('Remove it although it is up and has replicas.').optional(),
});

export const pagedQuery = z.strictObject({ ...pageQuery, ...watchQuery });

export const changeQuery = z.strictObject({ ...waitQuery });

const dryRunQuery = {
  dryRun: flag('Only say what the change would do, and change nothing.').optional(),
};

export const microserviceChangeQuery = changeQuery.extend(dryRunQuery);

export const applyQuery = microserviceChangeQuery.extend({
  moveHostnames: flag(
    'Take hostnames and public ports that other microservices have from them, in one step, when the new replicas serve.',
  ).optional(),
});

export const releaseListQuery = z.strictObject({
  ...limitQuery,
  after: wholeNumber(
    'Only what comes after the release with this number: the `next` of the page before.',
    9,
  ).optional(),
  ...watchQuery,
});

export const replicaListQuery = z.strictObject({
  microservice: name('Only those of this microservice.').optional(),
  node: name('Only those on this node.').optional(),
  state: replicaStateSchema.optional(),
  ...pageQuery,
  ...watchQuery,
});

export const replicasOfQuery = z.strictObject({
  node: name('Only those on this node.').optional(),
  state: replicaStateSchema.optional(),
  ...pageQuery,
  ...watchQuery,
});

export const logsQuery = z.strictObject({
  tail: wholeNumber('How many of the newest lines of each container; all when left out.', 7).optional(),
  follow: flag('Stay, and send new lines as they are written.').optional(),
  since: z
    .string()
    .max(64)
    .meta({
      description: 'Only lines after this time (ISO 8601), or of that long ago (10m).',
      example: '10m',
    })
    .optional(),
  container: name('Only this container.').optional(),
});

export const microserviceLogsQuery = logsQuery.extend({
  replica: name('Only this replica.').optional(),
});

export const operationListQuery = z.strictObject({
  microservice: name('Only those of this microservice.').optional(),
  state: operationStateSchema.optional(),
  kind: operationKindSchema.optional(),
  ...pageQuery,
  ...watchQuery,
});

export const operationsOfQuery = z.strictObject({
  state: operationStateSchema.optional(),
  kind: operationKindSchema.optional(),
  ...pageQuery,
  ...watchQuery,
});

export const eventListQuery = z.strictObject({
  since: z
    .string()
    .max(128)
    .meta({
      description:
        'Only events after the one with this id, after this time (ISO 8601), or of that long ago (10m).',
      example: '10m',
    })
    .optional(),
  microservice: name('Only those of this microservice.').optional(),
  node: name('Only those of this node.').optional(),
  operation: name('Only those of this operation.').optional(),
  level: z
    .enum(['info', 'warning', 'error'])
    .meta({ description: 'Only those of this level, or a graver one.' })
    .optional(),
  type: name('Only those of this type, or of these types when it ends with a dot (`replica.`).').optional(),
  ...limitQuery,
  ...watchQuery,
});

export const emptyQuery = z.strictObject({});

export const isSet = (value: string | undefined): boolean =>
  value !== undefined && value !== 'false' && value !== '0';

/** @returns milliseconds since the epoch of an ISO 8601 time, or of a duration before now */
export const parseSinceMs = (text: string, nowMs: number): number | undefined => {
  const agoMs = parseDurationMs(text);
  if (agoMs !== undefined) return nowMs - agoMs;
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return undefined;
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? undefined : atMs;
};
