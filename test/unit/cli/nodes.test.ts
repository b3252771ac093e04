/** What people see of nodes, and what they do to them. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { NOW_MS, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';
import { replicaDocument, useApi, VERSION } from '../api/api-under-test';

import { at, nodeWith, startCli } from './cli-under-test';

const use = useApi();
const run = (...argv: string[]) => startCli(argv, at(use.api.url)).ended;

const shows = async (documents: Record<string, unknown>, nodes: number, replicas = 0) => {
  use.api.kv.put(documents);
  await eventually(() => {
    expect(use.api.readModel.nodes()).toHaveLength(nodes);
    expect(use.api.readModel.replicas()).toHaveLength(replicas);
  });
};

const THREE = {
  ...nodeWith('node-1'),
  ...nodeWith('node-2', {
    address: '192.168.100.20',
    cpuPercent: 99.6,
    capacity: { cpus: 16, memoryBytes: 64e9, diskBytes: 1e12 },
  }),
  ...nodeWith('node-3', {
    health: 'degraded',
    reasons: ['the disk is nearly full', 'Docker\nis \u001b[31mslow'],
  }),
  ...replicaDocument(buildReplica('web-1', 'node-1', { restartCount: 3 })),
  ...replicaDocument(
    buildReplica('web-2', 'node-1', { state: 'crash_looping', reason: 'main exits with 1' }),
  ),
};

describe('nodes', () => {
  test('are shown as a table: one that is down shows nothing of what it was like', async () => {
    await shows(THREE, 3, 2);
    use.api.members.lose('node-2');
    await run('cordon', 'node-3');
    await eventually(() => expect(use.api.readModel.node('node-2')?.health).toBe('lost'));
    expect(await run('nodes')).toEqual({
      out: `\
NAME    ADDRESS         STATE  AVAILABILITY  REPLICAS       CPU         MEMORY  HEALTH
node-1  10.0.0.1        up     active               2  10% of 4  2.0 of 8.0 GB  healthy
node-2  192.168.100.20  down   active               0   - of 16   - of 64.0 GB  lost: it does not answer
node-3  10.0.0.1        up     cordoned             0  10% of 4  2.0 of 8.0 GB  degraded: the disk is nearly full; Docker is \ufffd[31mslow
`,
      err: '',
      end: 0,
    });
  });

  test('are said in words when there are none', async () => {
    expect((await run('nodes')).out).toBe(
      'There are no nodes. The machine that runs containeros up becomes the first one within seconds.\n',
    );
  });

  test('are printed as the API answers with --json', async () => {
    await shows(THREE, 3, 2);
    const { out } = await run('nodes', '--json');
    expect(out).toBe(`${(await use.api.call('GET', '/v1/nodes')).text}\n`);
    expect((await run('node', '--json', 'node-1')).out).toBe(
      `${(await use.api.call('GET', '/v1/nodes/node-1')).text}\n`,
    );
  });

  test('are told to be of before while Consul is away', async () => {
    await shows(THREE, 3, 2);
    use.api.kv.away(true);
    await eventually(() => expect(use.api.readModel.status().staleSinceMs).toBeDefined());
    const { out, err } = await run('nodes');
    expect(out).toContain('node-1');
    expect(err).toMatch(
      /^containeros: Consul has not answered since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, so this is what was known then\.\n$/,
    );
  });
});

describe('node', () => {
  test('is shown with what runs on it', async () => {
    await shows(
      {
        ...THREE,
        ...nodeWith('node-1', {
          containerosVersion: VERSION,
          updatedAtMs: NOW_MS - 90_000,
          labels: { disk: 'ssd', zone: 'eu' },
        }),
      },
      3,
      2,
    );
    expect((await run('node', 'node-1')).out).toBe(`\
Node node-1

  Address       10.0.0.1
  State         up, but its worker has no stream to this API: no logs
  Availability  active
  Health        healthy
  CPU           10% of 4 in use, 0 reserved
  Memory        2.0 of 8.0 GB in use, 0 bytes reserved
  Disk          50.0 GB free of 100.0 GB
  ContainerOS   1.2.3
  Docker        27.0.0 on amd64
  Labels        disk=ssd, zone=eu
  Images        1
  Reported      2025-12-31 23:58:30 UTC, 2 minutes ago

2 replicas:

REPLICA  MICROSERVICE  RELEASE  RESTARTS  STATE
web-1    web                v1         3  running
web-2    web                v1         0  crash-looping: main exits with 1
`);
  });

  test('that is down and empty says so', async () => {
    await shows(THREE, 3, 2);
    use.api.members.lose('node-2');
    await eventually(() => expect(use.api.readModel.node('node-2')?.health).toBe('lost'));
    expect((await run('node', 'node-2')).out).toBe(`\
Node node-2

  Address       192.168.100.20
  State         down
  Availability  active
  Health        lost: it does not answer
  CPU           - of 16, 0 reserved
  Memory        - of 64.0 GB, 0 bytes reserved
  Disk          50.0 GB free of 1.0 TB
  ContainerOS   unknown
  Docker        27.0.0 on amd64
  Labels        none
  Images        1
  Reported      2026-01-01 00:00:00 UTC, 0 seconds ago

It has no replicas.
`);
  });

  test('that is not there fails with the words of the API', async () => {
    await shows(nodeWith('node-1'), 1);
    for (const argv of [['node'], ['cordon'], ['uncordon'], ['drain'], ['drain', '--wait']]) {
      expect(await run(...argv, 'node-7')).toEqual({
        out: '',
        err: 'containeros: There is no node node-7. Did you mean node-1?\n',
        end: 'not_found',
      });
    }
  });

  test.each(['', '.', '..'])('cannot be called "%s", which would be another path', async (name) => {
    expect(await run('node', name)).toEqual({
      out: '',
      err: `containeros: "${name}" is no name.\n`,
      end: 'invalid',
    });
    expect((await run('remove', name)).end).toBe('invalid');
  });
});

test('a node is cordoned and taken back', async () => {
  await shows(nodeWith('node-1'), 1);
  expect(await run('cordon', 'node-1')).toEqual({
    out: 'Node node-1 is cordoned: it keeps what it has and takes nothing new. containeros uncordon node-1 ends that.\n',
    err: '',
    end: 0,
  });
  expect(use.api.readModel.node('node-1')?.availability).toBe('cordoned');
  expect((await run('uncordon', 'node-1')).out).toBe('Node node-1 is active: it takes replicas again.\n');
  expect(use.api.readModel.node('node-1')?.availability).toBe('active');
  expect(JSON.parse((await run('cordon', 'node-1', '--json')).out)).toMatchObject({
    availability: 'cordoned',
  });
});

/** Its route, as it is to be. */
describe('remove', () => {
  let server: Server;
  const asked: string[] = [];
  beforeEach(async () => {
    asked.splice(0);
    server = createServer(({ method, url }, answer) => {
      asked.push(`${method} ${url}`);
      if (url?.endsWith('?force=true')) answer.writeHead(204).end();
      else {
        answer.writeHead(409, { 'content-type': 'application/problem+json' }).end(
          JSON.stringify({
            code: 'conflict',
            status: 409,
            detail: 'Node node-1 still has 2 replicas. Drain it.',
          }),
        );
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => server.close());
  const remove = (...argv: string[]) =>
    startCli(['remove', ...argv], at(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)).ended;

  test('says what stands in its way', async () => {
    expect(await remove('node-1')).toEqual({
      out: '',
      err: 'containeros: Node node-1 still has 2 replicas. Drain it.\n',
      end: 'conflict',
    });
    expect(asked).toEqual(['DELETE /v1/nodes/node-1']);
  });

  test('removes by force', async () => {
    expect(await remove('a b/c', '--force')).toEqual({
      out: 'Node a b/c is removed from the cluster.\n',
      err: '',
      end: 0,
    });
    expect(asked).toEqual(['DELETE /v1/nodes/a%20b%2Fc?force=true']);
    expect((await remove('--force', 'node-1', '--json')).out).toBe('');
  });
});
