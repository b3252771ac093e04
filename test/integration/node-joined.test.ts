// A node that has joined: what its keeper does when its services are in the catalogue only, and no agent knows them.
import { KV_PREFIX } from '../../contracts/kv';
import { nodeAliveCheckId } from '../../contracts/services';
import type { ClusterEvent } from '../../domain/model';
import { httpRequest } from '../support/http';
import { loadInto, webImage } from '../support/images';
import { eventually } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;

beforeAll(async () => {
  machine = await startNodeMachine({ isJoined: true });
  await loadInto(machine.engine, await webImage('v1'));
}, 60_000);
afterAll(() => machine?.dispose());

const check = { http: { port: 80, path: '/cgi-bin/health' }, intervalSeconds: 1, failures: 1 };
const app = { image: 'web:v1', ports: [80], stopGraceSeconds: 2, startupGraceSeconds: 1, check };
const replica = buildStart({ containers: { app } });

const statusesOf = async (serviceId: string | undefined): Promise<readonly string[]> =>
  (await machine.checks()).filter(({ ServiceID }) => ServiceID === serviceId).map(({ Status }) => Status);
const serves = async (): Promise<void> => {
  const document = await machine.document(replica);
  expect(document?.state).toBe('running');
  const [port] = document?.ports ?? [];
  expect(await machine.services()).toMatchObject([{ ID: port?.serviceId, Port: port?.hostPort }]);
  expect(await statusesOf(port?.serviceId)).toEqual(['passing']);
  const page = await httpRequest(`http://${port?.address}:${port?.hostPort}/version`, { timeoutMs: 500 });
  expect(page.text.trim()).toBe('web v1');
};
const container = () => machine.engine.docker.getContainer(`${replica.replicaId}-app`);
const startedAt = async () => (await container().inspect()).State.StartedAt;
const isAlive = async (): Promise<void> => {
  const checks = await machine.checks();
  const alive = checks.find(({ CheckID }) => CheckID === nodeAliveCheckId(machine.config.nodeId));
  expect(alive?.Status).toBe('passing');
};

test('a replica is in the catalogue before its start returns, and its agent knows nothing of it', async () => {
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  await serves();
  const { body } = await machine.consul.request<object>({ path: '/agent/services' });
  expect(Object.keys(body)).toEqual([]);
  await eventually(isAlive);
}, 30_000);

test('a check that fails takes its traffic away, and the container is restarted', async () => {
  const run = await startedAt();
  const execution = await container().exec({ Cmd: ['/bin/touch', '/tmp/failing'] });
  await execution.start({ Detach: true });
  const serviceId = (await machine.document(replica))?.ports[0]?.serviceId;
  await eventually(async () => expect(await statusesOf(serviceId)).toEqual(['critical']), { intervalMs: 10 });
  await eventually(async () => expect(await startedAt()).not.toBe(run));
  const again = await container().exec({ Cmd: ['/bin/rm', '-f', '/tmp/failing'] });
  await again.start({ Detach: true });
  await eventually(serves);
}, 60_000);

test('another worker, another port and another Consul find it as it was', async () => {
  const run = await startedAt();
  await machine.restartNode();
  await eventually(serves);
  await machine.port?.restart();
  await machine.consulProcess.stop();
  await machine.consulProcess.wipe();
  await machine.consulProcess.start();
  await eventually(async () => {
    await serves();
    await isAlive();
  });
  expect(await startedAt()).toBe(run);
}, 60_000);

test('what is stopped is gone, and nothing was refused all the while', async () => {
  await stopOne(machine, replica);
  expect(await machine.services()).toEqual([]);
  expect(machine.port?.store.peek<ClusterEvent>(KV_PREFIX.events)).toEqual([]);
});
