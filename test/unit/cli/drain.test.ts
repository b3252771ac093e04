/** `drain`, and following it until the node is drained. */

import { nodeSettingsKvKey, replicaKvKey } from '../../../contracts/kv';
import { drainCommand } from '../../../cli/drain';
import type { ObservedReplica } from '../../../domain/model';
import { buildRelease, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';
import {
  buildMicroservice,
  microserviceDocuments,
  replicaDocument,
  startApi,
  useApi,
} from '../api/api-under-test';

import { at, nodeWith, startCli } from './cli-under-test';

const use = useApi();
const start = (...argv: string[]) => startCli(['drain', 'node-2', ...argv], at(use.api.url));

const web1 = buildReplica('web-1', 'node-2');
const web2 = buildReplica('web-2', 'node-2');
const db1 = buildReplica('db-1', 'node-2', { name: 'db' });
const logs1 = buildReplica('logs-1', 'node-2', { name: 'logs', daemon: true });
const done1 = buildReplica('done-1', 'node-2', { name: 'done', state: 'exited' });
const elsewhere = buildReplica('web-3', 'node-1');

const data = buildRelease(1, {
  containers: { app: { image: 'db', volumes: [{ name: 'data', path: '/data' }] } },
});

const has = async (...replicas: ObservedReplica[]) => {
  const names = [...new Set(replicas.map(({ name }) => name))];
  use.api.kv.put({
    ...nodeWith('node-1'),
    ...nodeWith('node-2'),
    ...Object.assign({}, ...names.map((name) => microserviceDocuments(buildMicroservice(name)))),
    ...Object.assign({}, ...replicas.map(replicaDocument)),
  } as Record<string, unknown>);
  await eventually(() => expect(use.api.readModel.replicas()).toHaveLength(replicas.length));
};
const put = (documents: Record<string, unknown>) => use.api.kv.put(documents);
const leave = (...replicas: ObservedReplica[]) =>
  use.api.kv.delete(...replicas.map((replica) => replicaKvKey(replica, replica.id)));
/** Each look reads the replicas once. */
const looks = () => use.api.logged.filter((line) => line.includes('"/v1/replicas"')).length;

describe('drain', () => {
  test('says what has to leave', async () => {
    await has(web1, web2, db1, elsewhere, done1);
    expect(await start().ended).toEqual({
      out: 'Node node-2 is being drained: 3 replicas have to leave (db and 2 of web). containeros drain node-2 --wait follows it.\n',
      err: '',
      end: 0,
    });
    expect(use.api.readModel.node('node-2')?.availability).toBe('draining');
  });

  test('of a node without replicas is done', async () => {
    await has(elsewhere, done1);
    expect((await start().ended).out).toBe('Node node-2 is drained: no replica is left on it.\n');
    expect((await start('--wait').ended).out).toBe('Node node-2 is drained: no replica is left on it.\n');
  });

  test('--json prints the node', async () => {
    await has(web1);
    expect(JSON.parse((await start('--json').ended).out)).toMatchObject({
      id: 'node-2',
      availability: 'draining',
      replicas: 1,
    });
  });
});

describe('drain --wait', () => {
  test('tells each change until the node is drained, and asks only when there is one', async () => {
    await has(web1, web2, db1, elsewhere);
    const running = start('--wait');
    const told = ['3 replicas still have to leave node-2: db and 2 of web.\n'];
    await eventually(() => expect(running.out()).toBe(told.join('')));
    put(
      microserviceDocuments(
        buildMicroservice('db', { state: 'failed', message: '1 replica of db found no node.' }),
      ),
    );
    told.push(
      '3 replicas still have to leave node-2: db and 2 of web.\n  db: 1 replica of db found no node.\n',
    );
    await eventually(() => expect(running.out()).toBe(told.join('')));
    leave(web1, web2);
    told.push('1 replica still has to leave node-2: db.\n  db: 1 replica of db found no node.\n');
    await eventually(() => expect(running.out()).toBe(told.join('')));
    leave(db1);
    told.push('Node node-2 is drained: no replica is left on it.\n');
    expect(await running.ended).toEqual({ out: told.join(''), err: '', end: 0 });
    expect(looks()).toBeGreaterThanOrEqual(told.length);
    expect(looks()).toBeLessThanOrEqual(2 * told.length);
  });

  test('says what stands in the way once, however often it is tried', async () => {
    await has(db1);
    const running = start('--wait');
    const tries = async (state: 'changing' | 'failed', message: string) => {
      const before = looks();
      put(microserviceDocuments(buildMicroservice('db', { state, message })));
      await eventually(() => expect(looks()).toBeGreaterThan(before));
    };
    await eventually(() => expect(running.out()).not.toBe(''));
    await tries('failed', 'no room');
    await tries('changing', '');
    await tries('failed', 'no room');
    await tries('failed', 'no node');
    leave(db1);
    const left = '1 replica still has to leave node-2: db.\n';
    expect((await running.ended).out).toBe(
      `${left}${left}  db: no room\n${left}  db: no node\nNode node-2 is drained: no replica is left on it.\n`,
    );
  });

  test('prints the node alone with --json', async () => {
    await has(web1);
    const running = start('--wait', '--json');
    await eventually(() => expect(use.api.readModel.node('node-2')?.availability).toBe('draining'));
    leave(web1);
    const { out, end } = await running.ended;
    expect(end).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ id: 'node-2', replicas: 0 });
  });

  test('ends when somebody ends the drain', async () => {
    await has(web1);
    const running = start('--wait');
    await eventually(() => expect(running.out()).toContain('web.'));
    await use.api.call('POST', '/v1/nodes/node-2/uncordon');
    expect(await running.ended).toEqual({
      out: '1 replica still has to leave node-2: web.\n',
      err: 'containeros: Node node-2 is active now: somebody ended the drain. 1 replica is still there.\n',
      end: 'conflict',
    });
  });

  test('ends when only data that cannot move is left, and daemons that wait for it', async () => {
    await has(web1, db1, logs1);
    put({
      ...microserviceDocuments(buildMicroservice('db', { release: data })),
      ...microserviceDocuments(buildMicroservice('logs', { release: buildRelease(1, { daemon: true }) })),
    });
    const running = start('--wait');
    await eventually(() =>
      expect(running.out()).toBe(
        '3 replicas still have to leave node-2: db, logs and web.\n  db keeps its data in volumes there, and stays.\n',
      ),
    );
    leave(web1);
    const { err, end } = await running.ended;
    expect(err).toBe(
      'containeros: Node node-2 cannot be drained: db keeps its data in volumes there, so it stays. All else that can leave has left. Remove that microservice, or let the node go on with containeros uncordon node-2.\n',
    );
    expect(end).toBe('conflict');
  });

  test('waits for data that goes, because its microservice is removed or scaled to nothing', async () => {
    const cache1 = buildReplica('cache-1', 'node-2', { name: 'cache' });
    await has(db1, cache1);
    put({
      ...microserviceDocuments(buildMicroservice('db', { release: data, state: 'removing' })),
      ...microserviceDocuments(buildMicroservice('cache', { release: data, scale: 0 })),
    });
    await eventually(() =>
      expect(use.api.readModel.microservice({ project: 'default', name: 'cache' })?.scale).toBe(0),
    );
    const running = start('--wait');
    await eventually(() =>
      expect(running.out()).toBe('2 replicas still have to leave node-2: cache and db.\n'),
    );
    leave(db1, cache1);
    expect((await running.ended).end).toBe(0);
  });

  test('says that a node is down', async () => {
    await has(web1);
    const running = start('--wait');
    await eventually(() => expect(running.out()).toContain('web.'));
    use.api.members.lose('node-2');
    await eventually(() => expect(running.out()).toContain('The node does not answer.'));
    leave(web1);
    expect((await running.ended).end).toBe(0);
  });

  test('ends when the node is removed', async () => {
    await has(web1);
    const running = start('--wait');
    await eventually(() => expect(running.out()).toContain('web.'));
    use.api.kv.delete(Object.keys(nodeWith('node-2'))[0] ?? '', nodeSettingsKvKey('node-2'));
    expect((await running.ended).end).toBe('not_found');
  });

  test('goes on with an API that was restarted meanwhile', async () => {
    await has(web1, web2);
    const quick = [drainCommand({ retryMs: 20, limitMs: 20_000 })];
    const running = startCli(['drain', 'node-2', '--wait'], { ...at(use.api.url), commands: quick });
    await eventually(() => expect(running.out()).toContain('2 of web.'));
    await use.api.close();
    await eventually(() => expect(running.err()).not.toBe(''));
    leave(web1);
    const again = await startApi({ kv: use.api.kv, port: use.api.port });
    try {
      await eventually(() => expect(running.out()).toContain('1 replica still has to leave node-2: web.'));
      leave(web2);
      const { err, end } = await running.ended;
      expect(end).toBe(0);
      expect(err).toMatch(
        /^containeros: The API at \S+ cannot be reached: .* goes on meanwhile; trying again\.\n$/,
      );
    } finally {
      await again.close();
    }
  });

  test('gives an API up that stays away, and says that the drain goes on', async () => {
    await has(web1);
    const quick = [drainCommand({ retryMs: 20, limitMs: 100 })];
    const running = startCli(['drain', 'node-2', '--wait'], { ...at(use.api.url), commands: quick });
    await eventually(() => expect(running.out()).toContain('web.'));
    await use.api.close();
    const { err, end } = await running.ended;
    expect(end).toBe('unavailable');
    expect(err).toMatch(
      /The drain of node-2 goes on by itself; containeros drain node-2 --wait follows it again\.\n$/,
    );
  });
});
