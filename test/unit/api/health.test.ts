/** What is said of a microservice's health, for what is seen of its replicas. */

import { healthOf } from '../../../api/health';
import type { ShownReplica } from '../../../api/read-model';
import { buildReplica } from '../../support/builders';

import { buildMicroservice } from './api-under-test';

const seen = (
  id: string,
  state: ShownReplica['state'],
  reason?: string,
  exitCode?: number,
): ShownReplica => ({
  ...buildReplica(id, 'a'),
  state,
  ...(reason === undefined ? {} : { reason }),
  containers:
    exitCode === undefined
      ? []
      : [
          {
            name: 'app',
            containerId: 'c',
            image: 'i',
            imageId: 'i',
            running: false,
            restartCount: 0,
            exitCode,
          },
        ],
});

const up = seen('web-1', 'running');

test.each<[title: string, scale: number, replicas: readonly ShownReplica[], health: object]>([
  ['nothing is wanted', 0, [], { health: 'idle' }],
  ['all run', 1, [up], { health: 'healthy' }],
  ['more run than are wanted', 1, [up, seen('web-2', 'stopping')], { health: 'healthy' }],
  [
    'a check fails',
    2,
    [up, seen('web-2', 'unhealthy', 'GET / answered 500')],
    { health: 'degraded', healthReason: '1 of 2 replicas run: web-2 is unhealthy (GET / answered 500)' },
  ],
  ['one is not there yet', 2, [up], { health: 'degraded', healthReason: '1 of 2 replicas run' }],
  [
    'the only one keeps ending',
    1,
    [seen('web-1', 'crash_looping')],
    { health: 'unavailable', healthReason: '0 of 1 replica runs: web-1 is crash-looping' },
  ],
  [
    'its node is lost',
    1,
    [seen('web-1', 'lost', 'node a does not answer')],
    { health: 'unavailable', healthReason: '0 of 1 replica runs: web-1 is lost (node a does not answer)' },
  ],
  [
    'a job is done',
    2,
    [seen('j-1', 'exited', 'ended', 0), seen('j-2', 'exited', 'ended', 0)],
    { health: 'completed' },
  ],
  ['a job is half done', 2, [up, seen('j-2', 'exited', 'ended', 0)], { health: 'healthy' }],
  [
    'one container has prepared what the other serves',
    1,
    [
      {
        ...seen('web-1', 'exited', 'ended', 0),
        containers: [
          ...seen('web-1', 'exited', 'ended', 0).containers,
          { name: 'web', containerId: 'd', image: 'i', imageId: 'i', running: true, restartCount: 0 },
        ],
      },
    ],
    { health: 'healthy' },
  ],
  [
    'a job has failed',
    1,
    [seen('j-1', 'exited', 'app ended with status 3', 3)],
    {
      health: 'unavailable',
      healthReason: '0 of 1 replica runs: j-1 is exited (app ended with status 3)',
    },
  ],
])('%s', (_title, scale, replicas, health) => {
  expect(healthOf({ ...buildMicroservice('web'), scale }, replicas)).toEqual(health);
});
