/**
 * What all changes have in common: their conditions, and how they are answered.
 *
 * Invariants: an answer to a change is sent when the read model shows the change, so that a GET right after it does
 * too; 202 means accepted and durable, 200 means done, and what failed or was rolled back is never a success.
 */

import { createHash } from 'node:crypto';

import { parseOperationId, type ChangeAccepted, type ChangeRequest } from '../contracts/workflows';
import { ContainerOsError } from '../domain/errors';
import type { Operation } from '../domain/model';
import { MAX_WAIT_MS, parseDurationMs } from '../openapi/parameters';

import type { RouteDeps } from './api-deps';
import { sendJson, type Exchange } from './exchange';
import { ProblemError } from './problem';
import { withoutPasswords } from './seal-passwords';
import { operationPath, operationView } from './views';

/** How long an answer waits for the read model; the change is made by then, whatever the read model knows. */
const OWN_WRITE_TIMEOUT_MS = 2_000;

const ENTITY_TAG = /^(?:W\/)?"([0-9]{1,15})"$/;

const headerOf = ({ req }: Exchange, name: string): string | undefined => {
  const value = req.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
};

/** The generation that If-Match or If-None-Match allow; `any` when there only has to be one. */
const conditionOf = (exchange: Exchange): number | 'any' | undefined => {
  const match = headerOf(exchange, 'if-match')?.trim();
  const noneMatch = headerOf(exchange, 'if-none-match')?.trim();
  if (noneMatch !== undefined) {
    if (noneMatch === '*' && match === undefined) return 0;
    throw new ContainerOsError(
      'invalid',
      'With a change, If-None-Match may only be *: it must not exist yet.',
    );
  }
  if (match === undefined) return undefined;
  if (match === '*') return 'any';
  const generation = ENTITY_TAG.exec(match)?.[1];
  if (generation === undefined) {
    throw new ContainerOsError(
      'invalid',
      'If-Match has to be * or the ETag that was answered before: the generation in double quotes, like "3".',
    );
  }
  return Number(generation);
};

/** @throws {ContainerOsError} `invalid` */
export const idempotencyKeyOf = (exchange: Exchange): string | undefined => {
  const key = headerOf(exchange, 'idempotency-key');
  if (key === undefined) return undefined;
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new ContainerOsError(
      'invalid',
      'Idempotency-Key has to have 1 to 255 printable characters without spaces.',
    );
  }
  return key;
};

/** Sorted keys, so that two spellings of one JSON document are the same request. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (key, written: unknown) => {
    const one = withoutPasswords(key, written);
    return typeof one === 'object' && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)))
      : one;
  }) ?? '';

/**
 * @param body what the client sent, for telling a repeated request from another one
 * @param exists whether the microservice is there, as far as is known, for `If-Match: *`
 */
export const changeConditions = (exchange: Exchange, body: unknown, exists: () => boolean): ChangeRequest => {
  const condition = conditionOf(exchange);
  if (condition === 'any' && !exists()) {
    throw new ContainerOsError('precondition_failed', 'If-Match: * asks for a microservice that exists.');
  }
  const idempotencyKey = idempotencyKeyOf(exchange);
  const { method, path } = exchange.req;
  const hash = () =>
    createHash('sha256')
      .update(`${method} ${path}\n${canonical(body)}`)
      .digest('hex');
  return {
    by: { kind: 'password' },
    ...(typeof condition === 'number' ? { ifGeneration: condition } : {}),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey, requestHash: hash() }),
  };
};

/** @throws {ContainerOsError} `invalid` when it is too long */
export const waitMsOf = (wait: string | undefined): number => {
  const waitMs = wait === undefined ? 0 : (parseDurationMs(wait) ?? 0);
  if (waitMs > MAX_WAIT_MS) {
    throw new ContainerOsError('invalid', `A wait may take ${MAX_WAIT_MS / 60_000} minutes at most.`);
  }
  return waitMs;
};

/**
 * The operation when it has ended, and what it has set up can be asked for, or as it is when the time is over or the
 * client has gone.
 */
export const waitForEnd = async (
  deps: RouteDeps,
  exchange: Exchange,
  id: string,
  waitMs: number,
): Promise<Operation | undefined> => {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), waitMs);
  const signal = AbortSignal.any([limit.signal, exchange.signal]);
  let last: Operation | undefined;
  try {
    for await (const operation of deps.operations.follow(id, signal)) last = operation;
    const owner = parseOperationId(id);
    if (owner !== undefined && last?.state === 'succeeded') await deps.routesConfirmed(owner, signal);
    return last;
  } finally {
    clearTimeout(timer);
  }
};

/**
 * Answers with an operation: 200 or 202, or the error that it ended in.
 *
 * @throws {ProblemError} when it has ended otherwise than well
 */
export const answerOperation = (
  deps: RouteDeps,
  exchange: Exchange,
  operation: Operation,
  extras: { readonly generation?: number; readonly created?: boolean } = {},
): void => {
  const view = { ...operationView(operation, deps.webUi), ...extras };
  const headers = {
    location: operationPath(operation.id),
    ...(extras.generation === undefined ? {} : { etag: `"${extras.generation}"` }),
  };
  switch (operation.state) {
    case 'succeeded':
      sendJson(exchange, 200, { value: view }, headers);
      return;
    case 'queued':
    case 'running':
    case 'paused':
      sendJson(exchange, 202, { value: view }, headers);
      return;
    case 'superseded':
      throw new ProblemError(
        'conflict',
        `A newer change took over before this one was done: ${operation.message || 'superseded'}.`,
        { operation: view, headers },
      );
    case 'failed':
    case 'rolled_back':
      throw new ProblemError(
        operation.error?.code ?? 'internal',
        operation.message || (operation.error?.message ?? `The operation ended as ${operation.state}.`),
        { operation: view, headers },
      );
  }
};

/** Answers a change that was accepted, after waiting for its end if that was asked for. */
export const answerChange = async (
  deps: RouteDeps,
  exchange: Exchange,
  accepted: ChangeAccepted,
  waitMs: number,
): Promise<void> => {
  await deps.readModel.waitForIndex(accepted.index, OWN_WRITE_TIMEOUT_MS);
  const { operation, generation, created } = accepted;
  const last = waitMs > 0 ? await waitForEnd(deps, exchange, operation.id, waitMs) : undefined;
  const current = last ?? operation;
  if (waitMs === 0) {
    sendJson(
      exchange,
      202,
      { value: { ...operationView(current, deps.webUi), generation, created } },
      { location: operationPath(operation.id), etag: `"${generation}"` },
    );
    return;
  }
  answerOperation(deps, exchange, current, { generation, created });
};
