/**
 * The HTTP API as an Express application.
 *
 * Invariants: a request is looked at in this order: where it comes from (Host, Origin), who sends it (password, or
 * token of a node), what it asks for; every error becomes a problem+json answer in one place; neither passwords nor
 * whole URLs, which may hold one, are ever logged.
 */

import { randomUUID } from 'node:crypto';

import express, { type Express, type NextFunction, type Request, type Response } from 'express';

import { ContainerOsError } from '../domain/errors';

import type { ApiDeps, RouteDeps } from './api-deps';
import { createAttemptLimiter } from './attempt-limiter';
import type { Access, Exchange, Route } from './exchange';
import { createApiMetrics } from './metrics';
import { PROBLEM_JSON, ProblemError, toProblem } from './problem';
import { certificateRoutes } from './routes/certificates';
import { eventRoutes } from './routes/events';
import { execRoutes } from './routes/exec';
import { internalRoutes } from './routes/internal';
import { joinTokenRoutes } from './routes/join-tokens';
import { logRoutes } from './routes/logs';
import { maintenanceRoutes } from './routes/maintenance';
import { microserviceRoutes } from './routes/microservices';
import { nodeRoutes } from './routes/nodes';
import { operationRoutes } from './routes/operations';
import { placementRoutes } from './routes/placement';
import { releaseCommandRoutes } from './routes/release-commands';
import { releaseRoutes } from './routes/releases';
import { replicaRoutes } from './routes/replicas';
import { webhookRoutes } from './routes/webhooks';
import { systemRoutes } from './routes/system';
import { SECURITY_HEADERS, assertOwnPage, assertSecret, createSecret } from './security';
import { createWebUiLink } from './views';

/** The first users know microservices in the singular. */
const PLURAL = '/v1/microservices';
const SINGULAR = '/v1/microservice';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

export const createRoutes = (deps: RouteDeps): readonly Route[] => [
  ...microserviceRoutes(deps),
  ...maintenanceRoutes(deps),
  ...releaseRoutes(deps),
  ...releaseCommandRoutes(deps),
  ...placementRoutes(deps),
  ...replicaRoutes(deps),
  ...nodeRoutes(deps),
  ...operationRoutes(deps),
  ...logRoutes(deps),
  ...execRoutes(deps),
  ...eventRoutes(deps),
  ...webhookRoutes(deps),
  ...joinTokenRoutes(deps),
  ...certificateRoutes(deps),
  ...systemRoutes(deps),
  ...internalRoutes(deps),
];

/** `/v1/nodes/{id}` as Express writes it, and the alias of the first users beside it. */
const expressPathsOf = (path: string): readonly string[] => {
  const plain = path.replace(/\{(\w+)\}/g, ':$1');
  return plain.startsWith(PLURAL) ? [plain, SINGULAR + plain.slice(PLURAL.length)] : [plain];
};

interface Locals {
  readonly exchange: Exchange;
  /** Pattern of the path, once it is known. */
  route?: string;
}

const localsOf = (res: Response): Locals => res.locals as Locals;

export const createApp = (deps: ApiDeps): Express => {
  const { config, log, nowMs } = deps;
  const routeDeps: RouteDeps = { ...deps, webUi: createWebUiLink(config.webUiUrl, config.temporalNamespace) };
  const limiter = createAttemptLimiter();
  const metrics = createApiMetrics({
    registry: deps.metrics,
    readModel: deps.readModel,
    nodeStreams: deps.nodeStreams,
    nowMs,
  });
  const allowedHosts = new Set(config.allowedHosts.map((host) => host.toLowerCase().replace(/^\[|\]$/g, '')));
  const secrets: Readonly<Record<Exclude<Access, 'open'>, ReturnType<typeof createSecret>>> = {
    password: createSecret(config.password),
    node: createSecret(config.internalToken),
  };

  const open = new Set<AbortController>();
  deps.closing.addEventListener('abort', () => {
    for (const gone of open) gone.abort();
  });

  const begin = (req: Request, res: Response, next: NextFunction): void => {
    const startedAt = performance.now();
    const given = req.headers['x-request-id'];
    const requestId = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
    const at = req.url.indexOf('?');
    const query = new URLSearchParams(at === -1 ? '' : req.url.slice(at + 1));
    const gone = new AbortController();
    const exchange: Exchange = { req, res, requestId, query, signal: gone.signal };
    open.add(gone);
    if (deps.closing.aborted) gone.abort();
    (res.locals as { exchange: Exchange }).exchange = exchange;
    res.set(SECURITY_HEADERS).set('x-request-id', requestId);
    res.once('close', () => {
      open.delete(gone);
      gone.abort();
      const ms = performance.now() - startedAt;
      const { route = 'none' } = localsOf(res);
      metrics.answered(route, req.method, res.statusCode, ms / 1_000);
      const line = {
        requestId,
        method: req.method,
        route,
        status: res.statusCode,
        ms: Math.round(ms * 10) / 10,
      };
      if (req.method === 'GET' || req.method === 'HEAD') log.debug(line, 'answered');
      else log.info(line, 'answered');
    });
    next();
  };

  const admit = (req: Request, res: Response, access: Access): void => {
    const { query } = localsOf(res).exchange;
    if (access !== 'open') assertSecret(req, query, secrets[access], limiter, nowMs());
    query.delete('password');
  };

  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', () => ({}));
  app.use(begin);
  app.use((req, _res, next) => {
    assertOwnPage(req, allowedHosts);
    next();
  });

  const byPath = new Map<string, Route[]>();
  for (const route of createRoutes(routeDeps)) {
    byPath.set(route.path, [...(byPath.get(route.path) ?? []), route]);
  }
  for (const [path, routes] of byPath) {
    const methods = routes.map(({ method }) => method);
    const allowed = [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].sort();
    app.all([...expressPathsOf(path)], async (req, res) => {
      const locals = localsOf(res);
      locals.route = path;
      const wanted = req.method === 'HEAD' ? 'GET' : req.method;
      const route = routes.find(({ method }) => method === wanted);
      admit(req, res, (route ?? routes[0])?.access ?? 'password');
      if (route?.access === 'password') await deps.readModel.catchUp();
      if (route) await route.handle(locals.exchange);
      else if (req.method === 'OPTIONS') res.writeHead(204, { allow: allowed.join(', ') }).end();
      else {
        throw new ProblemError(
          'method_not_allowed',
          `${path} takes ${allowed.join(', ')}, not ${req.method}.`,
          {
            allowed,
          },
        );
      }
    });
  }

  app.use((req, res) => {
    // What is not there is told only to those who may know what is.
    admit(req, res, req.path.startsWith('/internal/') ? 'node' : 'password');
    throw new ContainerOsError(
      'not_found',
      'There is nothing under this path. /openapi.json lists what there is.',
    );
  });

  app.use((error: unknown, req: Request, res: Response, _next: NextFunction) => {
    const { requestId, signal } = localsOf(res).exchange;
    const { status, headers, body, errorId } = toProblem(error, requestId);
    if (errorId !== undefined && !(error instanceof ProblemError)) {
      const route = localsOf(res).route ?? 'none';
      log.error({ err: error, errorId, requestId, method: req.method, route }, 'a request met a defect');
    }
    if (res.headersSent) {
      // Too late for a status: breaking off is the only way left to say that the answer is not whole.
      if (!signal.aborted) res.destroy();
      return;
    }
    const bytes = Buffer.from(JSON.stringify(body));
    res.writeHead(status, { 'content-type': PROBLEM_JSON, 'content-length': bytes.length, ...headers });
    res.end(bytes);
  });

  return app;
};
