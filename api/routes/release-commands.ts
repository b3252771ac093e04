/** A release that is under way: promote, abort, pause, resume. */

import type { ChangeAccepted, ReleaseCommand } from '../../contracts/workflows';
import { ContainerOsError } from '../../domain/errors';
import type { MicroserviceKey } from '../../domain/model';
import { changeQuery } from '../../openapi/parameters';
import { steerRequestSchema } from '../../openapi/schemas';
import { answerChange, changeConditions, waitMsOf } from '../answer-change';
import type { RouteDeps } from '../api-deps';
import { parsedBodyOf, pathParameter, queryOf, type Exchange, type Route } from '../exchange';
import { assertName, keyOf, microserviceNames, notFound } from '../find';

/** Until people have names of their own. */
const WHO = 'an operator';

export const releaseCommandRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, changes } = deps;

  const exists = (name: string) => () => readModel.microservice(keyOf(name)) !== undefined;

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

  const steer =
    (command: ReleaseCommand) =>
    async (exchange: Exchange): Promise<void> => {
      const name = pathParameter(exchange, 'name');
      const waitMs = waitMsOf(queryOf(exchange, changeQuery).wait);
      const { value, raw } = await parsedBodyOf(exchange, steerRequestSchema);
      const wantedBy = value.reason === undefined ? WHO : `${WHO}: ${value.reason}`;
      const conditions = changeConditions(exchange, raw, exists(name));
      const accepted = await changeExisting(name, (key) =>
        changes.steer(key, { ...conditions, command, wantedBy }, exchange.signal),
      );
      await answerChange(deps, exchange, accepted, waitMs);
    };

  const access = 'password';
  const one = '/v1/microservices/{name}';
  return [
    { method: 'POST', path: `${one}/promote`, access, handle: steer('promote') },
    { method: 'POST', path: `${one}/abort`, access, handle: steer('abort') },
    { method: 'POST', path: `${one}/pause`, access, handle: steer('pause') },
    { method: 'POST', path: `${one}/resume`, access, handle: steer('resume') },
  ];
};
