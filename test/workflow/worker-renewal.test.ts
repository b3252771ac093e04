/** A worker whose credentials are renewed shows the new ones, whenever it hears of it. */

import { pino } from 'pino';

import { startTemporalWorker, type RunningWorker } from '../../workers/temporal-worker';
import { eventually } from '../support/wait';

import { useTemporal } from './temporal';

const use = useTemporal();
let worker: RunningWorker | undefined;
afterEach(() => worker?.stop());

/** @param onConnected with the number of the connection, before there is a worker on it */
const start = (onConnected: (connections: number) => void) => {
  const seen = { credentialsRead: 0, polling: [] as boolean[] };
  worker = startTemporalWorker({
    address: use.temporal.address,
    logger: pino({ level: 'silent' }),
    connectionOptions: () => {
      seen.credentialsRead += 1;
      return {};
    },
    options: async (connection) => {
      onConnected(seen.credentialsRead);
      return { connection, taskQueue: 'worker-renewal', activities: { nothing: async () => undefined } };
    },
    onPolling: (polling) => seen.polling.push(polling),
  });
  return seen;
};

test('while it runs', async () => {
  const seen = start(() => undefined);
  await eventually(() => expect(seen.polling).toEqual([true]));
  worker?.renew();
  await eventually(() => expect(seen.polling).toEqual([true, false, true]));
  expect(seen.credentialsRead).toBe(2);
});

test('while it is made, over a connection with the old ones', async () => {
  const seen = start((connections) => {
    if (connections === 1) worker?.renew();
  });
  await eventually(() => expect(seen.polling.at(-1)).toBe(true));
  expect(seen.credentialsRead).toBe(2);
});
