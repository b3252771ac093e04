/**
 * How a microservice does, as far as its replicas are seen now. Pure.
 *
 * Its `state` tells of its operations: that it is steady says that the last one succeeded, and a check may fail since.
 */

import type { Microservice } from '../domain/model';
import type { MicroserviceView } from '../openapi/schemas';

import type { ShownReplica } from './read-model';

type Health = Pick<MicroserviceView, 'health' | 'healthReason'>;

/** Whether what has ended of it has ended well. */
const hasEndedWell = ({ state, containers }: ShownReplica): boolean =>
  state === 'exited' && containers.every(({ running, exitCode }) => running || exitCode === 0);

/** Whether a job has done what it was there for. */
const isDone = (replica: ShownReplica): boolean =>
  hasEndedWell(replica) && replica.containers.every(({ running }) => !running);

/** A replica whose preparing container has ended well goes on with the others. */
const isRunning = (replica: ShownReplica): boolean =>
  replica.state === 'running' || (hasEndedWell(replica) && !isDone(replica));

const inWords = ({ id, state, reason }: ShownReplica): string =>
  `${id} is ${state.replace('_', '-')}${reason === undefined ? '' : ` (${reason})`}`;

/** @param replicas all that there are of it */
export const healthOf = ({ scale }: Microservice, replicas: readonly ShownReplica[]): Health => {
  if (scale === 0) return { health: 'idle' };
  const running = replicas.filter(isRunning).length;
  const done = replicas.filter(isDone).length;
  if (done >= scale) return { health: 'completed' };
  if (running + done >= scale) return { health: 'healthy' };
  const worse = replicas.find((replica) => !isRunning(replica) && !isDone(replica));
  const counted = `${running} of ${scale} ${scale === 1 ? 'replica runs' : 'replicas run'}`;
  return {
    health: running === 0 ? 'unavailable' : 'degraded',
    healthReason: worse === undefined ? counted : `${counted}: ${inWords(worse)}`,
  };
};
