/** A node that wants to leave: what it waits for, what it is told meanwhile, and what cannot end by itself. */

import { createLeaveNode } from '../../../api/join/leave-node';
import { replicaKvKey } from '../../../contracts/kv';
import type { LeaveAnswer } from '../../../contracts/join';
import type { Microservice, NodeAvailability, ObservedReplica } from '../../../domain/model';
import { buildRelease, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';

import {
  buildMicroservice,
  microserviceDocuments,
  nodeDocument,
  replicaDocument,
  useApi,
} from './api-under-test';

const use = useApi();

const removed: string[] = [];
const said: [string, NodeAvailability][] = [];
beforeEach(() => {
  removed.splice(0);
  said.splice(0);
});

const SERIAL = '1f';

const leave = ({ force = false, waitMs = 300 } = {}): Promise<LeaveAnswer> =>
  createLeaveNode({
    readModel: use.api.readModel,
    nodeSettings: {
      setAvailability: async (nodeId, availability) => {
        said.push([nodeId, availability]);
        return undefined;
      },
    },
    remover: {
      assertRemovable: () => undefined,
      remove: async (nodeId) => {
        removed.push(nodeId);
        return 1;
      },
    },
    waitMs,
  })({ nodeId: 'node-2', serial: SERIAL }, { force });

const web1 = buildReplica('web-1', 'node-2');
const web2 = buildReplica('web-2', 'node-2');
const db1 = buildReplica('db-1', 'node-2', { name: 'db' });
const cache1 = buildReplica('cache-1', 'node-2', { name: 'cache' });
const logs1 = buildReplica('logs-1', 'node-2', { name: 'logs', daemon: true });
const done1 = buildReplica('done-1', 'node-2', { name: 'done', state: 'exited' });
const elsewhere = buildReplica('web-3', 'node-1');

const data = buildRelease(1, {
  containers: { app: { image: 'db', volumes: [{ name: 'data', path: '/data' }] } },
});
const DAEMON = { release: buildRelease(1, { daemon: true }) };

const has = async (
  replicas: readonly ObservedReplica[],
  microservices: Readonly<Record<string, Partial<Microservice>>> = {},
) => {
  const names = [...new Set(replicas.map(({ name }) => name))];
  use.api.kv.put({
    ...nodeDocument('node-1'),
    ...nodeDocument('node-2'),
    ...Object.assign(
      {},
      ...names.map((name) => microserviceDocuments(buildMicroservice(name, microservices[name]))),
      ...replicas.map(replicaDocument),
    ),
  } as Record<string, unknown>);
  await eventually(() => expect(use.api.readModel.replicas()).toHaveLength(replicas.length));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(names.length));
};
const stops = (...replicas: ObservedReplica[]) =>
  use.api.kv.delete(...replicas.map((replica) => replicaKvKey(replica, replica.id)));

test('what has to start elsewhere is waited for, and told', async () => {
  await has([web1, web2, db1, elsewhere, done1]);
  expect(await leave()).toEqual({ hasLeft: false, replicas: 3, microservices: ['db', 'web'] });
  expect(said).toEqual([['node-2', 'draining']]);
  expect(removed).toEqual([]);

  const left = leave({ waitMs: 60_000 });
  stops(web1, web2, db1);
  expect(await left).toMatchObject({ hasLeft: true });
  expect(removed).toEqual(['node-2']);
});

test('why something does not start elsewhere is told', async () => {
  await has([web1, db1], {
    web: { state: 'failed', message: '1 replica of web found no node: there is no node.' },
  });
  expect(await leave()).toEqual({
    hasLeft: false,
    replicas: 2,
    microservices: ['db', 'web'],
    troubles: ['web: 1 replica of web found no node: there is no node.'],
  });
});

test('daemons start nowhere else: it is told that they stop last', async () => {
  await has([web1, logs1], { logs: DAEMON });
  expect(await leave()).toEqual({
    hasLeft: false,
    replicas: 1,
    microservices: ['web'],
    troubles: ['logs is a daemon, and stops last.'],
  });
  stops(web1);
  await eventually(() => expect(use.api.readModel.replicas()).toHaveLength(1));
  expect(await leave()).toEqual({
    hasLeft: false,
    replicas: 0,
    microservices: [],
    troubles: ['logs is a daemon, and stops last.'],
  });
});

test('what keeps its data there is told while other things move, and is not waited for when they have', async () => {
  await has([web1, db1, cache1, logs1], { db: { release: data }, cache: { release: data }, logs: DAEMON });
  expect(await leave()).toEqual({
    hasLeft: false,
    replicas: 1,
    microservices: ['web'],
    troubles: [
      'cache keeps its data in volumes here, and stays.',
      'db keeps its data in volumes here, and stays.',
      'logs is a daemon, and stops last.',
    ],
  });
  const refused = expect(leave({ waitMs: 60_000 })).rejects.toMatchObject({
    code: 'conflict',
    message:
      'Node node-2 cannot leave: cache and db keep their data in volumes there, so they stay. All else that can leave has left (but for logs: daemons stop last). Remove those microservices; or leave with containeros leave --force: they start elsewhere without that data, which stays on this machine; or let the node go on with containeros uncordon node-2.',
  });
  stops(web1);
  await refused;
  expect(removed).toEqual([]);
});

test('what keeps its data, and is being stopped already, is waited for', async () => {
  await has([{ ...db1, state: 'stopping' }], { db: { release: data } });
  const left = leave({ waitMs: 60_000 });
  stops(db1);
  expect(await left).toMatchObject({ hasLeft: true });
});

test('one microservice that stays is refused at once', async () => {
  await has([db1], { db: { release: data } });
  await expect(leave({ waitMs: 60_000 })).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(
      /^Node node-2 cannot leave: db keeps its data in volumes there, so it stays\. All else that can leave has left\. Remove that microservice; or /,
    ) as string,
  });
});

test('data that goes, because its microservice is removed or scaled to nothing, is waited for', async () => {
  await has([db1, cache1], { db: { release: data, state: 'removing' }, cache: { release: data, scale: 0 } });
  expect(await leave()).toEqual({ hasLeft: false, replicas: 2, microservices: ['cache', 'db'] });
});

test('by force it leaves at once, whatever it has', async () => {
  await has([web1, db1], { db: { release: data } });
  expect(await leave({ force: true })).toMatchObject({ hasLeft: true });
  expect(removed).toEqual(['node-2']);
  expect(said).toEqual([]);
});
