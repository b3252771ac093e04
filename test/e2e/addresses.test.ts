// The same installation under another address than before: alone on its machine, in a network, and alone again.
import { startDockerEngine, type DockerEngine } from '../support/engine';
import { httpRequest } from '../support/http';
import { startInstance, type Instance, type InstanceOptions } from '../support/instance';
import { webImage } from '../support/images';
import { startRegistry, type Registry } from '../support/registry';
import { apply, replicas, webSpec } from '../support/product';
import { eventually } from '../support/wait';

let engine: DockerEngine;
let registry: Registry;
let running: Instance | undefined;

beforeAll(async () => {
  [engine, registry] = await Promise.all([startDockerEngine(), startRegistry()]);
}, 60_000);
afterAll(async () => {
  await running?.dispose();
  await Promise.all([engine.dispose(), registry.dispose()]);
}, 60_000);

const startAs = async (options: Omit<InstanceOptions, 'engine'>): Promise<Instance> => {
  await running?.stop();
  running = await startInstance({ engine, ...options });
  return running;
};

/** Waits until two replicas serve, and all of them on this address. */
const servesOn = (instance: Instance, address: string): Promise<void> =>
  eventually(
    async () => {
      const all = await replicas(instance, 'web');
      const endpoints = all.map(({ ports }) => ports[0]?.address ?? 'none');
      if (all.length !== 2 || !all.every(({ healthy }) => healthy)) throw new Error(JSON.stringify(all));
      for (const endpoint of endpoints) {
        expect(endpoint.startsWith(`${address}:`)).toBe(true);
        const outside = address === '127.0.0.1' ? instance.outside(endpoint) : endpoint;
        const { status } = await httpRequest(`http://${outside}/`, { timeoutMs: 3_000 });
        if (status !== 200) throw new Error(`${endpoint} answers ${status}`);
      }
    },
    { timeoutMs: 40_000, describe: `two replicas serve on ${address}` },
  );

test('replicas follow the address of their node', async () => {
  const alone = await startAs({});
  await apply(alone, webSpec('web', await registry.push(await webImage('v1')), { scale: 2 }));
  await servesOn(alone, '127.0.0.1');

  const networked = await startAs({ password: 'a long password' });
  await servesOn(networked, engine.address);
  const made = await networked.api('POST', '/v1/join-tokens', { body: {} });
  expect(made.status).toBe(201);
  expect((made.body as { command: string }).command).toContain(
    `containeros join ${engine.address}:7443 --token cos1.`,
  );

  const aloneAgain = await startAs({});
  await servesOn(aloneAgain, '127.0.0.1');
  expect((await aloneAgain.api('POST', '/v1/join-tokens', { body: {} })).status).toBe(409);
}, 180_000);
