// Hostnames of microservices, as a browser on this machine asks for them.
import { httpRequest, type HttpAnswer } from '../support/http';
import { startLoad, type LoadReport } from '../support/load';
import {
  apply,
  change,
  removeMicroservice,
  scenario,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { eventually } from '../support/wait';

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
}, 180_000);

afterAll(() => bed?.dispose(), 60_000);

const ingressOf = ({ instance }: TestBed): string => instance.outside(`127.0.0.1:${instance.httpPort}`);

const ask = (running: TestBed, hostname: string, path = '/'): Promise<HttpAnswer> =>
  httpRequest(`http://${ingressOf(running)}${path}`, { headers: { host: hostname } });

const answers = (running: TestBed, hostname: string, text: string): Promise<void> =>
  eventually(async () => expect((await ask(running, hostname)).text).toContain(text), {
    describe: `${hostname} answers "${text}"`,
  });

const named = (name: string, image: string, hostname: string, more: Record<string, unknown> = {}) =>
  webSpec(name, image, {
    ...more,
    container: { ports: [], httpPorts: { '80': hostname }, ...(more['container'] as object) },
  });

/** What clients that ask all the time saw of the steps. */
const underLoad = async (
  running: TestBed,
  hostname: string,
  steps: () => Promise<void>,
): Promise<LoadReport> => {
  const load = startLoad({ address: ingressOf(running), hostname, clients: 8 });
  try {
    await steps();
  } finally {
    await load.stop();
  }
  return load.report();
};

scenario(
  'a hostname answers when the deploy is done, and no more when its microservice is gone',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    expect((await ask(running, 'hello.localhost')).status).toBe(404);
    await apply(instance, named('hello', await web('v1'), 'hello.localhost', { scale: 2 }));
    await answers(running, 'hello.localhost', 'web v1');
    expect((await ask(running, 'HELLO.localhost:80')).status).toBe(200);
    expect((await ask(running, 'other.localhost')).text).toBe(
      'No microservice of this cluster has the hostname other.localhost.\n',
    );
    await removeMicroservice(instance, 'hello');
    await eventually(async () => expect((await ask(running, 'hello.localhost')).status).toBe(404), {
      describe: 'the hostname is nobody’s again',
    });
  },
);

scenario(
  'requests go on while replicas come, go, change and die',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const images = [await web('v1'), await web('v2')];
    await apply(instance, named('steady', images[0] ?? '', 'steady.localhost', { scale: 2 }));
    await answers(running, 'steady.localhost', 'web v1');
    const { answered, failures } = await underLoad(running, 'steady.localhost', async () => {
      for (const scale of [6, 1, 3]) await change(instance, 'PATCH', '/v1/microservices/steady', { scale });
      for (let round = 0; round < 4; round += 1) {
        await apply(
          instance,
          named('steady', images[(round + 1) % 2] ?? '', 'steady.localhost', { scale: 3 }),
        );
      }
    });
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(500);
    await removeMicroservice(instance, 'steady');
  },
);
