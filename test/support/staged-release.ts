// A release that takes over in stages, as who watches over it steers and follows it.
import type { OperationView } from '../../openapi/schemas';
import type { HttpAnswer } from './http';
import type { Instance } from './instance';
import { read } from './product';
import { eventuallyValue } from './wait';

const TIMEOUT_MS = 90_000;

/** Pauses, resumes, promotes, aborts or redeploys. */
export const steer = (
  instance: Instance,
  name: string,
  command: 'pause' | 'resume' | 'promote' | 'abort' | 'redeploy',
  body: object = {},
): Promise<HttpAnswer> => instance.api('POST', `/v1/microservices/${name}/${command}`, { body });

/** Waits until the record of an operation is so. */
export const untilRecorded = (
  instance: Instance,
  id: string,
  isSo: (operation: OperationView) => boolean,
): Promise<OperationView> =>
  eventuallyValue(() => read<OperationView>(instance, `/v1/operations/${id}`), isSo, {
    timeoutMs: TIMEOUT_MS,
    describe: `the record of ${id}`,
  });

/** How many of a load's answers have this text. */
export const countWith = (bodies: ReadonlyMap<string, number>, text: string): number =>
  [...bodies].filter(([body]) => body.includes(text)).reduce((sum, [, count]) => sum + count, 0);
