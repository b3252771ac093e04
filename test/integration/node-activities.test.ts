// The node's activities against a real Docker Engine and a real Consul.
import { loadInto, webImage } from '../support/images';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;

beforeAll(async () => {
  machine = await startNodeMachine();
  await loadInto(machine.engine, await webImage('v1'));
}, 60_000);
afterAll(() => machine?.dispose());

const web = { containers: { app: { image: 'web:v1', ports: [80], stopGraceSeconds: 2 } } };

test('a replica is started, registered, published and stopped; each as well a second time', async () => {
  const replica = buildStart(web);
  const first = await startOne(machine, replica);
  expect(first).toMatchObject({ kind: 'ready', ports: [{ container: 'app', port: 80, protocol: 'tcp' }] });
  const second = await startOne(machine, replica);
  expect(second).toEqual(first);
    await machine.document(replica),
    await machine.services(),
    await machine.checks(),
    await machine.events(),
  );
  expect(await stopOne(machine, replica)).toMatchObject({ existed: true });
  expect(await stopOne(machine, replica)).toMatchObject({ existed: false });
  expect(await machine.document(replica)).toBeUndefined();
  expect(await machine.services()).toEqual([]);
}, 60_000);
