/** Microservices: create, read, update, scale, restart, roll back, delete. */

import type { ChangeAccepted, ChangeRequest } from '../../contracts/workflows';
import { ContainerOsError } from '../../domain/errors';
import { scaleOf } from '../../domain/exclusive';
import type { Microservice, MicroserviceKey } from '../../domain/model';
import { parseMicroserviceSpec, type ParsedSpec } from '../../domain/spec/parse';
import { changeQuery, microserviceListQuery, microserviceQuery } from '../../openapi/parameters';
import {
  emptyRequestSchema,
  patchRequestSchema,
  rollbackRequestSchema,
  scaleRequestSchema,
} from '../../openapi/schemas';
import { answerChange, changeConditions, waitMsOf } from '../answer-change';
import type { RouteDeps } from '../api-deps';
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
import { TOPIC } from '../read-model';
import { specificationOf } from '../views';
import { versionHeaders, waitAsWatched } from '../watch';

/** How often a patch is made anew when somebody else changes the microservice at the same time. */
const PATCH_ATTEMPTS = 5;

export const microserviceRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, changes, config } = deps;
  const json = createMicroserviceJson(readModel, deps.webUi, deps.config.httpPort);

  const parseSpec = (document: unknown): ParsedSpec => {
    const outcome = parseMicroserviceSpec(document, { allowHostAccess: config.allowHostAccess });
    if (outcome.kind === 'ok') return outcome.spec;
    const [first] = outcome.problems;
    const more = outcome.problems.length > 1 ? ` (and ${outcome.problems.length - 1} more)` : '';
    const place = first === undefined || first.path === '' ? 'it' : first.path;
    throw new ContainerOsError(
      outcome.code,
      sentence(
        `The specification is not ${outcome.code === 'forbidden' ? 'allowed' : 'valid'}: ${place} ${first?.message ?? ''}${more}`,
      ),
      outcome.problems,
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

  const apply = (
    { signal }: Exchange,
    spec: ParsedSpec,
    conditions: ChangeRequest,
  ): Promise<ChangeAccepted> =>
    changes.apply(
      keyOf(spec.name),
      {
        ...conditions,
        name: spec.name,
        ...(keepsScale(spec) ? {} : { scale: spec.scale }),
        release: spec.release,
      },
      signal,
    );

  /** A change of a microservice that has to be there. */
  const changeExisting = async (name: string, change: (key: MicroserviceKey) => Promise<ChangeAccepted>) => {
    assertName(readModel, name);
    try {
      return await change(keyOf(name));
    } catch (error) {
      const isMissing = error instanceof ContainerOsError && error.code === 'not_found';
      if (isMissing && !exists(name)()) throw notFound('microservice', name, microserviceNames(readModel));
      throw error;
    }
  };

  const create = async (exchange: Exchange): Promise<void> => {
    const { wait } = queryOf(exchange, changeQuery);
    const waitMs = waitMsOf(wait);
    const body = await bodyOf(exchange);
    const spec = parseSpec(body);
    const conditions = changeConditions(exchange, body, exists(spec.name));
    await answerChange(deps, exchange, await apply(exchange, spec, conditions), waitMs);
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
    const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
    assertName(readModel, name);
    const body = await bodyOf(exchange);
    // The name is in the path, so the body need not repeat it; but it must not contradict it.
    const spec = parseSpec(
      typeof body === 'object' && body !== null && !Array.isArray(body) && !Object.hasOwn(body, 'name')
        ? { ...body, name }
        : body,
    );
    if (spec.name.toLowerCase() !== name.toLowerCase()) {
      throw new ContainerOsError(
        'invalid',
        `The body is of ${spec.name}, the path is of ${name}. A name cannot be changed.`,
        [{ path: '/name', message: `must be ${name}, as in the path` }],
      );
    }
    const conditions = changeConditions(exchange, body, exists(name));
    // What is replaced is the whole: a scale that is left out is the default again, not what it was.
    await answerChange(
      deps,
      exchange,
      await apply(exchange, { ...spec, scaleGiven: true }, conditions),
      waitMs,
    );
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
  ): Promise<ChangeAccepted> => {
    for (let attempt = 1; ; attempt += 1) {
      const current = findMicroservice(readModel, name);
      const spec = parseSpec(merged(current, patch));
      if (spec.name !== current.name) {
        throw new ContainerOsError('invalid', 'The name of a microservice cannot be changed.', [
          { path: '/name', message: `must be ${current.name}` },
        ]);
      }
      try {
        return await apply(exchange, spec, {
          ...conditions,
          ifGeneration: conditions.ifGeneration ?? current.generation,
        });
      } catch (error) {
        const isOutdated = error instanceof ContainerOsError && error.code === 'precondition_failed';
        if (!isOutdated || conditions.ifGeneration !== undefined || attempt === PATCH_ATTEMPTS) throw error;
        await readModel.refresh();
      }
    }
  };

  const patch = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
    const { value, raw } = await parsedBodyOf(exchange, patchRequestSchema);
    if (Object.keys(value).length === 0) {
      throw new ContainerOsError('invalid', 'The body is empty. Send what is to be changed as JSON.');
    }
    const onlyScale = scaleRequestSchema.safeParse(value);
    if (onlyScale.success) assertScalable(name, onlyScale.data.scale);
    const conditions = changeConditions(exchange, raw, exists(name));
    const accepted = await changeExisting(name, (key) =>
      onlyScale.success
        ? changes.scale(key, { ...conditions, scale: onlyScale.data.scale }, exchange.signal)
        : applyPatch(exchange, name, value, conditions),
    );
    await answerChange(deps, exchange, accepted, waitMs);
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
    const conditions = changeConditions(exchange, undefined, exists(name));
    const accepted = await changeExisting(name, (key) => changes.remove(key, conditions, exchange.signal));
    await answerChange(deps, exchange, accepted, waitMs);
  };

  const redeploy = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
    const { raw } = await parsedBodyOf(exchange, emptyRequestSchema);
    const conditions = changeConditions(exchange, raw, exists(name));
    const accepted = await changeExisting(name, (key) => changes.redeploy(key, conditions, exchange.signal));
    await answerChange(deps, exchange, accepted, waitMs);
  };

  const restart = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
    const { raw } = await parsedBodyOf(exchange, emptyRequestSchema);
    const conditions = changeConditions(exchange, raw, exists(name));
    const accepted = await changeExisting(name, (key) => changes.restart(key, conditions, exchange.signal));
    await answerChange(deps, exchange, accepted, waitMs);
  };

  const rollback = async (exchange: Exchange): Promise<void> => {
    const name = pathParameter(exchange, 'name');
    const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
    const { value, raw } = await parsedBodyOf(exchange, rollbackRequestSchema);
    const conditions = changeConditions(exchange, raw, exists(name));
    const target = value.toRelease === undefined ? {} : { toRelease: value.toRelease };
    const accepted = await changeExisting(name, (key) =>
      changes.rollback(key, { ...conditions, ...target }, exchange.signal),
    );
    await answerChange(deps, exchange, accepted, waitMs);
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
    { method: 'POST', path: `${one}/restart`, access, handle: restart },
    { method: 'POST', path: `${one}/redeploy`, access, handle: redeploy },
    { method: 'POST', path: `${one}/rollback`, access, handle: rollback },
  ];
};
