// Routes with options, from a specification to what a client gets.
import { httpRequest, type HttpAnswer } from '../support/http';
import { apply, scenario, startTestBed, webSpec, type TestBed } from '../support/product';
import { eventually } from '../support/wait';

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
}, 180_000);

afterAll(() => bed?.dispose(), 60_000);

const ask = (
  { instance }: TestBed,
  hostname: string,
  path = '/',
  headers: Record<string, string> = {},
): Promise<HttpAnswer> =>
  httpRequest(`http://${instance.outside(`127.0.0.1:${instance.httpPort}`)}${path}`, {
    headers: { host: hostname, ...headers },
  });

const routed = (name: string, image: string, routes: unknown) =>
  webSpec(name, image, { scale: 2, container: { ports: [], httpPorts: { '80': routes } } });

const basic = (password: string) => ({
  authorization: `Basic ${Buffer.from(`alice:${password}`).toString('base64')}`,
});

scenario(
  'options of a release hold once it runs, follow a change of it, and go with it',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const [one, two] = [await web('v1'), await web('v2')];
    await apply(
      instance,
      routed('site', one, [
        { hostnames: 'site.localhost', redirectFrom: ['www.site.localhost'] },
        {
          hostnames: 'site.localhost',
          path: '/admin',
          stripPath: true,
          basicAuth: { alice: 'correct horse' },
        },
        {
          hostnames: 'site.localhost',
          path: '/few',
          stripPath: true,
          rateLimit: { requests: 2, seconds: 3_600 },
        },
      ]),
    );
    await eventually(async () => expect((await ask(running, 'site.localhost')).text).toContain('web v1'));
    expect((await ask(running, 'www.site.localhost', '/x')).headers.location).toBe('//site.localhost/x');
    expect((await ask(running, 'site.localhost', '/admin')).status).toBe(401);
    expect((await ask(running, 'site.localhost', '/admin', basic('correct horse'))).text).toContain('web v1');
    const few = [1, 2, 3].map(() => ask(running, 'site.localhost', '/few'));
    expect((await Promise.all(few)).map(({ status }) => status).sort()).toEqual([200, 200, 429]);
    const read = await instance.api('GET', '/v1/microservices/site');
    expect(read.text).not.toContain('correct horse');
    expect(read.text).toMatch(/"alice":"\$2b\$10\$/);

    // Another microservice gets a path of the same hostname, but none that is taken.
    const taken = await instance.api('POST', '/v1/microservices', {
      body: routed('thief', two, { hostnames: 'site.localhost', path: '/ADMIN' }),
    });
    expect(taken.status).toBe(409);
    expect(taken.text).toContain('site.localhost/admin');
    await apply(instance, routed('api', two, { hostnames: 'site.localhost', path: '/api', stripPath: true }));
    await eventually(async () =>
      expect((await ask(running, 'site.localhost', '/api')).text).toContain('web v2'),
    );
    expect((await ask(running, 'site.localhost')).text).toContain('web v1');

    await instance.api('PUT', '/v1/microservices/site/maintenance', { body: { text: 'Back at noon.' } });
    await eventually(async () => {
      const { status, text } = await ask(running, 'site.localhost');
      expect([status, text]).toEqual([503, 'Back at noon.']);
    });
    expect((await ask(running, 'site.localhost', '/api')).text).toContain('web v2');
    await instance.api('DELETE', '/v1/microservices/site/maintenance');
    await eventually(async () => expect((await ask(running, 'site.localhost')).text).toContain('web v1'));

    await apply(instance, routed('site', two, 'site.localhost'));
    await eventually(async () => {
      expect((await ask(running, 'site.localhost')).text).toContain('web v2');
      expect((await ask(running, 'site.localhost', '/admin')).status).not.toBe(401);
      expect((await ask(running, 'www.site.localhost')).status).toBe(404);
    });
  },
);
