/** Microservices: create, read, update, scale, restart, redeploy, roll back, delete. */

import type { z } from 'zod';

import type { ApplyRequest, ChangeAccepted, ChangeRequest, PreviewRequest } from '../../contracts/workflows';
import { ContainerOsError, type Problem } from '../../domain/errors';
import { scaleOf } from '../../domain/exclusive';
import type { Microservice, MicroserviceKey } from '../../domain/model';
import { parseMicroserviceSpec, type ParsedSpec } from '../../domain/spec/parse';
import {
  applyQuery,
  isSet,
  microserviceChangeQuery,
  microserviceListQuery,
  microserviceQuery,
} from '../../openapi/parameters';
import {
  emptyRequestSchema,
  patchRequestSchema,
  rollbackRequestSchema,
  scaleRequestSchema,
} from '../../openapi/schemas';
import { answerChange, changeConditions, waitMsOf } from '../answer-change';
import type { RouteDeps } from '../api-deps';
import { answerDryRun } from '../dry-run';
import {
  jsonBodyOf,
  parsedBodyOf,
  pathParameter,
  queryOf,
  sendJson,
  type Exchange,
  type Route,
} from '../exchange';
import { assertName, findMicroservice, keyOf, microserviceNames, notFound } from '../find';
import { mergePatch } from '../merge-patch';
import { createMicroserviceJson } from '../microservice-json';
import { pageOf } from '../page';
import { sentence } from '../problem';
import { sealPasswords } from '../seal-passwords';
import { TOPIC } from '../read-documents';
import { specificationOf } from '../views';
import { versionHeaders, waitAsWatched } from '../watch';

/** How often a patch is made anew when somebody else changes the microservice at the same time. */
const PATCH_ATTEMPTS = 5;

/** How a change is asked for, beside its conditions. */
interface Asked {
  readonly waitMs: number;
  readonly isDryRun: boolean;
  readonly movesHostnames: boolean;
}

const askedOf = (exchange: Exchange, query: typeof applyQuery | typeof microserviceChangeQuery): Asked => {
  const asked: z.output<typeof applyQuery> = queryOf(exchange, query);
  return {
    waitMs: waitMsOf(asked.wait),
    isDryRun: isSet(asked.dryRun),
    movesHostnames: isSet(asked.moveHostnames),
  };
};

const misnamed = (name: string): Problem => ({ path: '/name', message: `must be ${name}, as in the path` });

export const microserviceRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, changes, config } = deps;
  const json = createMicroserviceJson(readModel, deps.webUi, {
    httpPort: config.httpPort,
    httpsPort: config.httpsPort,
    hasCertificate: (hostname) => readModel.isCertified(hostname) || deps.certificates.willBeIssued(hostname),
  });

  /** @param name the one in the path, which a document that is refused anyway must not contradict either */
  const parseSpec = (document: unknown, name?: string): ParsedSpec => {
    const outcome = parseMicroserviceSpec(document, config);
    if (outcome.kind === 'ok') return outcome.spec;
    const written = (document as { readonly name?: unknown } | null)?.name;
    const isOther =
      name !== undefined && typeof written === 'string' && written.toLowerCase() !== name.toLowerCase();
    const problems = [...(isOther ? [misnamed(name)] : []), ...outcome.problems];
    const [first] = problems;
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
    const place = first === undefined || first.path === '' ? 'it' : first.path;
    throw new ContainerOsError(
      outcome.code,
      sentence(
        `The specification is not ${outcome.code === 'forbidden' ? 'allowed' : 'valid'}: ${place} ${first?.message ?? ''}${more}`,
      ),
      problems,
    );
  };

  const bodyOf = async (exchange: Exchange): Promise<unknown> => {
    const body = await jsonBodyOf(exchange);
    if (body !== undefined) return body;
    throw new ContainerOsError(
      'invalid',
      'The body is empty. Send the specification of a microservice as JSON.',
    );
  };

  const exists = (name: string) => () => readModel.microservice(keyOf(name)) !== undefined;

  /**
   * Of a daemon the nodes decide; what it had before is kept for when it is none any more, be it because its release
   * fails. Without any replicas it would count as stopped.
   */
  const keepsScale = ({ name, release, scaleGiven }: ParsedSpec): boolean =>
    release.daemon === true ? (readModel.microservice(keyOf(name))?.scale ?? 0) > 0 : !scaleGiven;

  const applyRequest = async (
    spec: ParsedSpec,
    conditions: ChangeRequest,
    asked: Asked,
  ): Promise<ApplyRequest> => ({
    ...conditions,
    ...(asked.movesHostnames ? { movesHostnames: true } : {}),
    name: spec.name,
    ...(keepsScale(spec) ? {} : { scale: spec.scale }),
    release: await sealPasswords(spec.release, readModel.microservice(keyOf(spec.name))?.release.spec),
  });

  /** Applies a specification, or answers what that would do. */
  const applyOrTell = async (
    exchange: Exchange,
    spec: ParsedSpec,
    conditions: ChangeRequest,
    asked: Asked,
  ): Promise<void> => {
    const key = keyOf(spec.name);
    const change = await applyRequest(spec, conditions, asked);
    if (asked.isDryRun) await answerDryRun(deps, exchange, key, { kind: 'apply', change });
    else await answerChange(deps, exchange, await changes.apply(key, change, exchange.signal), asked.waitMs);
  };

  /** A change of a microservice that has to be there. */
  const existing = async <T>(name: string, change: (key: MicroserviceKey) => Promise<T>): Promise<T> => {
    assertName(readModel, name);
    try {
      return await change(keyOf(name));
    } catch (error) {
      const isMissing = error instanceof ContainerOsError && error.code === 'not_found';
      if (isMissing && !exists(name)()) throw notFound('microservice', name, microserviceNames(readModel));
      throw error;
    }
  };

  /** A change of a microservice that has to be there, or what it would do. */
  const changeOrTell = async (
    exchange: Exchange,
    name: string,
    request: PreviewRequest,
    { isDryRun, waitMs }: Asked,
    change: (key: MicroserviceKey) => Promise<ChangeAccepted>,
  ): Promise<void> => {
    if (isDryRun) await existing(name, (key) => answerDryRun(deps, exchange, key, request));
    else await answerChange(deps, exchange, await existing(name, change), waitMs);
  };

  const create = async (exchange: Exchange): Promise<void> => {
    const asked = askedOf(exchange, applyQuery);
    const body = await bodyOf(exchange);
    const spec = parseSpec(body);
    await applyOrTell(exchange, spec, changeConditions(exchange, body, exists(spec.name)), asked);
  };

  const list = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, microserviceListQuery);
    await waitAsWatched(deps, exchange, query, TOPIC.microservices);
    const version = readModel.versions.of(TOPIC.microservices);
    const headers = versionHeaders(deps, version);
    const { state, node, limit, after } = query;
    if ([state, node, limit, after].every((one) => one === undefined)) {
      sendJson(exchange, 200, { bytes: json.all(version) }, headers);
      return;
    }
    const wanted = (microservice: Microservice) =>
      (state === undefined || microservice.state === state) &&
      (node === undefined || readModel.replicasOf(microservice).some(({ nodeId }) => nodeId === node));
    const page = pageOf(
      readModel.microservices().filter(wanted),
      query,
      ({ name }) => name,
      ({ name }, cursor) => name.toLowerCase() > cursor.toLowerCase(),
    );
    sendJson(exchange, 200, { text: json.list(page, version) }, headers);
  };

  const read = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const query = queryOf(exchange, microserviceQuery);
    const { project } = findMicroservice(readModel, name);
    await waitAsWatched(deps, exchange, query, TOPIC.microservice({ project, name }));
    const microservice = findMicroservice(readModel, name);
    const version = readModel.versions.of(TOPIC.microservice(microservice));
    sendJson(
      exchange,
      200,
      { text: json.of(microservice) },
      { ...versionHeaders(deps, version), etag: `"${microservice.generation}"` },
    );
  };

  const replace = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const asked = askedOf(exchange, applyQuery);
    assertName(readModel, name);
    const body = await bodyOf(exchange);
    // The name is in the path, so the body need not repeat it; but it must not contradict it.
    const spec = parseSpec(
      typeof body === 'object' && body !== null && !Array.isArray(body) && !Object.hasOwn(body, 'name')
        ? { ...body, name }
        : body,
      name,
    );
    if (spec.name.toLowerCase() !== name.toLowerCase()) {
      throw new ContainerOsError(
        'invalid',
        `The body is of ${spec.name}, the path is of ${name}. A name cannot be changed.`,
        [misnamed(name)],
      );
    }
    const conditions = changeConditions(exchange, body, exists(name));
    // What is replaced is the whole: a scale that is left out is the default again, not what it was.
    await applyOrTell(exchange, { ...spec, scaleGiven: true }, conditions, asked);
  };

  /** What becomes a daemon, or exclusive, loses its scale by that, unless the patch insists on one. */
  const merged = (current: Microservice, patch: Readonly<Record<string, unknown>>): unknown => {
    const decides = patch['daemon'] === true || patch['exclusive'] === true;
    return mergePatch(
      specificationOf(current),
      decides && !Object.hasOwn(patch, 'scale') ? { ...patch, scale: null } : patch,
    );
  };

  const assertScalable = (name: string, scale: number): void => {
    if (!exists(name)()) return;
    const { spec } = findMicroservice(readModel, name).release;
    if (scaleOf(spec, scale) !== scale) {
      throw new ContainerOsError(
        'invalid',
        `${name} is exclusive: it never runs twice. Scale it to 0 or 1, or set "exclusive" to false.`,
        [{ path: '/scale', message: `must be 0 or 1 for what is exclusive, not ${scale}` }],
      );
    }
    if (spec.daemon !== true) return;
    throw new ContainerOsError(
      'invalid',
      `${name} is a daemon: it has one replica on every node that matches. Change its "constraints", or set "daemon" to false.`,
      [{ path: '/scale', message: 'must not be given for a daemon' }],
    );
  };

  /** The current specification with the patch, as long as nobody changes it in between. */
  const applyPatch = async (
    exchange: Exchange,
    name: string,
    patch: Readonly<Record<string, unknown>>,
    conditions: ChangeRequest,
    asked: Asked,
  ): Promise<void> => {
    for (let attempt = 1; ; attempt += 1) {
      const current = findMicroservice(readModel, name);
      const spec = parseSpec(merged(current, patch), current.name);
      if (spec.name !== current.name) {
        throw new ContainerOsError('invalid', 'The name of a microservice cannot be changed.', [
          misnamed(current.name),
        ]);
      }
      try {
        const ifGeneration = conditions.ifGeneration ?? current.generation;
        await applyOrTell(exchange, spec, { ...conditions, ifGeneration }, asked);
        return;
      } catch (error) {
        const isOutdated = error instanceof ContainerOsError && error.code === 'precondition_failed';
        if (!isOutdated || conditions.ifGeneration !== undefined || attempt === PATCH_ATTEMPTS) throw error;
        await readModel.refresh();
      }
    }
  };

  const patch = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const asked = askedOf(exchange, applyQuery);
    const { value, raw } = await parsedBodyOf(exchange, patchRequestSchema);
    if (Object.keys(value).length === 0) {
      throw new ContainerOsError('invalid', 'The body is empty. Send what is to be changed as JSON.');
    }
    const onlyScale = scaleRequestSchema.safeParse(value);
    const conditions = changeConditions(exchange, raw, exists(name));
    if (!onlyScale.success) {
      await existing(name, () => applyPatch(exchange, name, value, conditions, asked));
      return;
    }
    const { scale } = onlyScale.data;
    assertScalable(name, scale);
    const change = { ...conditions, scale };
    await changeOrTell(exchange, name, { kind: 'scale', change }, asked, (key) =>
      changes.scale(key, change, exchange.signal),
    );
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const asked = askedOf(exchange, microserviceChangeQuery);
    const change = changeConditions(exchange, undefined, exists(name));
    await changeOrTell(exchange, name, { kind: 'remove', change }, asked, (key) =>
      changes.remove(key, change, exchange.signal),
    );
  };

  /** A change that takes nothing but its conditions. */
  const changeBy =
    (kind: 'redeploy' | 'restart') =>
    async (exchange: Exchange): Promise<void> => {
      const name = pathParameter(exchange, 'name');
      const asked = askedOf(exchange, microserviceChangeQuery);
      const { raw } = await parsedBodyOf(exchange, emptyRequestSchema);
      const change = changeConditions(exchange, raw, exists(name));
      await changeOrTell(exchange, name, { kind, change }, asked, (key) =>
        changes[kind](key, change, exchange.signal),
      );
    };

  const rollback = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const asked = askedOf(exchange, microserviceChangeQuery);
    const { value, raw } = await parsedBodyOf(exchange, rollbackRequestSchema);
    const target = value.toRelease === undefined ? {} : { toRelease: value.toRelease };
    const change = { ...changeConditions(exchange, raw, exists(name)), ...target };
    await changeOrTell(exchange, name, { kind: 'rollback', change }, asked, (key) =>
      changes.rollback(key, change, exchange.signal),
    );
  };

  const access = 'password';
  const one = '/v1/microservices/{name}';
  return [
    { method: 'POST', path: '/v1/microservices', access, handle: create },
    { method: 'GET', path: '/v1/microservices', access, handle: list },
    { method: 'GET', path: one, access, handle: read },
    { method: 'PUT', path: one, access, handle: replace },
    { method: 'PATCH', path: one, access, handle: patch },
    { method: 'DELETE', path: one, access, handle: remove },
    { method: 'POST', path: `${one}/restart`, access, handle: changeBy('restart') },
    { method: 'POST', path: `${one}/redeploy`, access, handle: changeBy('redeploy') },
    { method: 'POST', path: `${one}/rollback`, access, handle: rollback },
  ];
};
