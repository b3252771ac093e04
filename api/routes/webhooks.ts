/** Deploy webhooks: making them, and their use by builds that have no password. */

import { createHash } from 'node:crypto';

import type { ChangeAccepted, ChangeRequest } from '../../contracts/workflows';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import type { Microservice } from '../../domain/model';
import { parseMicroserviceSpec } from '../../domain/spec/parse';
import { hookedImage, type HookRequest, type Webhook } from '../../domain/webhook';
import { changeQuery, emptyQuery } from '../../openapi/parameters';
import { emptyRequestSchema } from '../../openapi/schemas';
import {
  hookRequestSchema,
  webhookRequestSchema,
  type MadeWebhookView,
  type UnchangedHookView,
  type WebhookView,
} from '../../openapi/webhook-schemas';
import { answerChange, idempotencyKeyOf, waitMsOf } from '../answer-change';
import type { RouteDeps } from '../api-deps';
import { createAttemptLimiter } from '../attempt-limiter';
import {
  formOrJsonBodyOf,
  parsedBodyOf,
  pathParameter,
  queryOf,
  sendJson,
  type Exchange,
  type Route,
} from '../exchange';
import { findMicroservice } from '../find';
import { mergePatch } from '../merge-patch';
import { ProblemError } from '../problem';
import { microservicePath, specificationOf } from '../views';
import { createWebhooks, type MadeWebhook } from '../webhooks';

/** How often a deploy is asked for anew when somebody else changes the microservice at the same time. */
const ATTEMPTS = 5;

const timeOf = (atMs: number): string => new Date(atMs).toISOString();

/** Field by field, so that the hash of the secret stays where it is. */
const webhookView = (webhook: Webhook): WebhookView => {
  const { lastUse, rotatedAtMs, microservice } = webhook;
  return {
    id: webhook.id,
    name: webhook.name,
    microservice: microservice.name,
    anyRepository: webhook.anyRepository,
    createdAt: timeOf(webhook.createdAtMs),
    ...(rotatedAtMs === undefined ? {} : { rotatedAt: timeOf(rotatedAtMs) }),
    ...(lastUse === undefined
      ? {}
      : {
          lastUse: {
            at: timeOf(lastUse.atMs),
            result: lastUse.result,
            ...(lastUse.image === undefined ? {} : { image: lastUse.image }),
            ...(lastUse.operation === undefined ? {} : { operation: lastUse.operation }),
          },
        }),
    links: {
      self: `${microservicePath(microservice)}/webhooks/${webhook.id}`,
      microservice: microservicePath(microservice),
    },
  };
};

const madeView = ({ req }: Exchange, { webhook, secret }: MadeWebhook): MadeWebhookView => {
  const base = `${req.protocol}://${req.headers.host ?? 'localhost'}/v1/hooks/${webhook.id}`;
  return { ...webhookView(webhook), secret, url: `${base}/${secret}`, secretlessUrl: base };
};

const rateLimited = (message: string, waitMs: number) => {
  const seconds = Math.ceil(waitMs / 1_000);
  return new ProblemError('rate_limited', `${message} Try again in ${seconds} s.`, {
    headers: { 'retry-after': String(seconds) },
  });
};

const bearerOf = ({ req }: Exchange): string | undefined =>
  /^bearer\s+(\S+)\s*$/i.exec(req.headers.authorization ?? '')?.[1];

export const webhookRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, changes, store, config, nowMs, log } = deps;
  const webhooks = createWebhooks({ store, nowMs });
  const attempts = createAttemptLimiter();
  /** Of each webhook, whoever uses it: as many in a minute as an address may fail. */
  const uses = createAttemptLimiter();

  const create = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    const { value } = await parsedBodyOf(exchange, webhookRequestSchema);
    const made = await webhooks.create(microservice, {
      name: value.name,
      anyRepository: value.anyRepository ?? false,
    });
    sendJson(exchange, 201, { value: madeView(exchange, made) });
  };

  const list = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    const items = (await webhooks.list(microservice)).map(webhookView);
    sendJson(exchange, 200, { value: { items } });
  };

  const rotate = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    await parsedBodyOf(exchange, emptyRequestSchema);
    const made = await webhooks.rotate(microservice, pathParameter(exchange, 'webhook'));
    sendJson(exchange, 200, { value: madeView(exchange, made) });
  };

  const revoke = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    await webhooks.revoke(microservice, pathParameter(exchange, 'webhook'));
    exchange.res.writeHead(204).end();
  };

  /** @throws {ContainerOsError} `unauthenticated`, or `rate_limited`, before anything is compared */
  const admit = async ({ req }: Exchange, id: string, secret: string | undefined): Promise<Webhook> => {
    const address = req.socket.remoteAddress ?? 'unknown';
    const waitMs = attempts.waitMs(address, nowMs());
    if (waitMs > 0) throw rateLimited('Too many wrong secrets of webhooks came from this address.', waitMs);
    const webhook = await webhooks.find(id, secret ?? '');
    if (webhook === undefined) {
      attempts.failed(address, nowMs());
      throw new ContainerOsError(
        'unauthenticated',
        'There is no such webhook, or its secret is wrong. The secret is the last part of the URL, or comes as Authorization: Bearer <secret>.',
      );
    }
    const pauseMs = uses.waitMs(webhook.id, nowMs());
    if (pauseMs > 0) throw rateLimited(`The webhook ${webhook.name} is used too often.`, pauseMs);
    uses.failed(webhook.id, nowMs());
    return webhook;
  };

  const releaseOf = (current: Microservice, container: string, image: string) => {
    const outcome = parseMicroserviceSpec(
      mergePatch(specificationOf(current), { containers: { [container]: { image } } }),
      config,
    );
    if (outcome.kind === 'ok') return outcome.spec.release;
    throw new ContainerOsError(
      outcome.code,
      `With the image ${image} the specification would not be valid: ${outcome.problems[0]?.message ?? 'it is not allowed'}.`,
      outcome.problems,
    );
  };

  /** Undefined: the image is what is wanted already. */
  const deploy = async (
    exchange: Exchange,
    webhook: Webhook,
    request: HookRequest,
    change: ChangeRequest,
    saw: (image: string) => void,
  ): Promise<ChangeAccepted | undefined> => {
    for (let attempt = 1; ; attempt += 1) {
      const current = findMicroservice(readModel, webhook.microservice.name);
      const { container, image, before } = hookedImage(current.release.spec, webhook, request);
      saw(image);
      // A repeated request is answered with what the first one has done.
      if (image === before && change.idempotencyKey === undefined) return undefined;
      try {
        return await changes.apply(
          webhook.microservice,
          {
            ...change,
            ifGeneration: current.generation,
            name: current.name,
            release: releaseOf(current, container, image),
          },
          exchange.signal,
        );
      } catch (error) {
        const isOutdated = error instanceof ContainerOsError && error.code === 'precondition_failed';
        if (!isOutdated || attempt === ATTEMPTS) throw error;
        await readModel.refresh();
      }
    }
  };

  const remember = (webhook: Webhook, result: ErrorCode | 'accepted' | 'unchanged', more: object = {}) =>
    webhooks.used(webhook.id, { atMs: nowMs(), result, ...more }).catch((error: unknown) => {
      log.warn({ err: error, webhook: webhook.name }, 'could not remember that a webhook was used');
    });

  const use = async (exchange: Exchange, secret: string | undefined): Promise<void> => {
    const webhook = await admit(exchange, pathParameter(exchange, 'id'), secret);
    let image: string | undefined;
    const seen = () => (image === undefined ? {} : { image });
    let accepted: ChangeAccepted | undefined;
    let waitMs: number;
    try {
      waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
      const { redeploy, ...request } = await formOrJsonBodyOf(exchange, hookRequestSchema);
      if (redeploy !== undefined && Object.keys(request).length > 0) {
        throw new ContainerOsError('invalid', 'With "redeploy" nothing else may be given.');
      }
      const idempotencyKey = idempotencyKeyOf(exchange);
      const requestHash = createHash('sha256')
        .update(JSON.stringify([webhook.id, redeploy ?? null, Object.entries(request).sort()]))
        .digest('hex');
      const change: ChangeRequest = {
        by: { kind: 'webhook', name: webhook.name },
        ...(idempotencyKey === undefined ? {} : { idempotencyKey, requestHash }),
      };
      accepted =
        redeploy === undefined
          ? await deploy(exchange, webhook, request, change, (found) => (image = found))
          : await changes.redeploy(webhook.microservice, change, exchange.signal);
    } catch (error) {
      await remember(webhook, error instanceof ContainerOsError ? error.code : 'internal', seen());
      throw error;
    }
    if (accepted === undefined) {
      await remember(webhook, 'unchanged', seen());
      const current = findMicroservice(readModel, webhook.microservice.name);
      const value: UnchangedHookView = {
        changed: false,
        message: `${current.name} is to run ${image ?? 'it'} already (v${current.release.number}). Nothing was done.`,
        release: current.release.number,
        links: { microservice: microservicePath(current) },
      };
      sendJson(exchange, 200, { value });
      return;
    }
    await remember(webhook, 'accepted', { ...seen(), operation: accepted.operation.id });
    await answerChange(deps, exchange, accepted, waitMs);
  };

  const all = '/v1/microservices/{name}/webhooks';
  return [
    { method: 'POST', path: all, access: 'password', handle: create },
    { method: 'GET', path: all, access: 'password', handle: list },
    { method: 'DELETE', path: `${all}/{webhook}`, access: 'password', handle: revoke },
    { method: 'POST', path: `${all}/{webhook}/rotate`, access: 'password', handle: rotate },
    {
      method: 'POST',
      path: '/v1/hooks/{id}/{secret}',
      access: 'open',
      handle: (exchange) => use(exchange, pathParameter(exchange, 'secret')),
    },
    {
      method: 'POST',
      path: '/v1/hooks/{id}',
      access: 'open',
      handle: (exchange) => use(exchange, bearerOf(exchange)),
    },
  ];
};
