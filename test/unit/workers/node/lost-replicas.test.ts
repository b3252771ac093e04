/** When connections to replicas of lost nodes are ended, and which. */

import { setTimeout as delay } from 'node:timers/promises';

import pino from 'pino';

import type { RemoteEndpoint } from '../../../../adapters/host/end-connections';
import type { ObservedReplica } from '../../../../domain/model';
import { createLostReplicas, type LostReplicas } from '../../../../workers/node/lost-replicas';
import { buildReplica } from '../../../support/builders';
import { eventually } from '../../../support/wait';

const GRACE_MS = 50;

let lost: LostReplicas | undefined;
let ended: (readonly RemoteEndpoint[])[] = [];
let trouble: Error | undefined;
let warnings: string[] = [];

beforeEach(() => {
  ended = [];
  trouble = undefined;
  warnings = [];
  lost = createLostReplicas({
    endConnections: (endpoints) => {
      ended.push(endpoints);
      return trouble === undefined ? Promise.resolve() : Promise.reject(trouble);
    },
    logger: pino(
      { level: 'warn' },
      { write: (line) => warnings.push((JSON.parse(line) as { msg: string }).msg) },
    ),
    graceMs: GRACE_MS,
  });
});

afterEach(() => lost?.stop());

const replicaOn = (nodeId: string, address: string, port: number): ObservedReplica =>
  buildReplica(`on-${nodeId}`, nodeId, {
    ports: (['tcp', 'udp'] as const).map((protocol, index) => ({
      container: 'main',
      port: 80,
      protocol,
      address,
      hostPort: port + index,
      serviceId: `on-${nodeId}-main-80`,
      hostnames: [],
    })),
  });

const ONE = replicaOn('node-1', '10.0.0.1', 20_000);
const TWO = replicaOn('node-2', '10.0.0.2', 20_000);
const follow = (isTwoUp: boolean, replicas = [ONE, TWO]) =>
  lost?.follow(
    new Map([
      ['node-1', true],
      ['node-2', isTwoUp],
    ]),
    replicas,
  );

test('those of a node that stays lost are ended once, although its replicas are forgotten meanwhile', async () => {
  follow(true);
  follow(false);
  follow(false, [ONE]);
  expect(ended).toEqual([]);
  await eventually(() => expect(ended).toEqual([[{ address: '10.0.0.2', port: 20_000 }]]));
  follow(false, [ONE]);
  await delay(2 * GRACE_MS);
  expect(ended).toHaveLength(1);
  // The next loss is another one.
  follow(true);
  follow(false);
  await eventually(() => expect(ended).toHaveLength(2));
});

test('those of a node that is well again within the grace go on', async () => {
  follow(false);
  follow(true);
  await delay(2 * GRACE_MS);
  expect(ended).toEqual([]);
});

test('nothing is ended of what serves at an address that a lost replica told as well', async () => {
  follow(false, [ONE, TWO, replicaOn('node-1', '10.0.0.2', 20_000)]);
  await eventually(() => expect(ended).toEqual([[]]));
});

test('that it cannot be done is said once', async () => {
  trouble = new Error('Operation not permitted');
  for (let losses = 1; losses <= 2; losses += 1) {
    follow(false);
    await eventually(() => expect(ended).toHaveLength(losses));
    follow(true);
  }
  expect(warnings).toEqual(['requests that were under way to the lost node node-2 wait until TCP gives up']);
});
