// Hostnames of microservices, as a browser on this machine asks for them.
import { request as httpsRequest } from 'node:https';
import { text as readText } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';

import { createTestAuthority } from '../support/certificates';
import { httpRequest, type HttpAnswer } from '../support/http';
import { startLoad, type Load, type LoadOptions, type LoadReport } from '../support/load';
import { longRequestServer, openUpload, openWebSocket } from '../support/long-requests';
import {
  apply,
  change,
  removeMicroservice,
  replicas,
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

const secureIngressOf = ({ instance }: TestBed): string =>
  instance.outside(`127.0.0.1:${instance.httpsPort}`);

/** Of the cluster's authority for private hostnames. */
const rootOf = async ({ instance }: TestBed): Promise<string> => {
  const { body } = await instance.api('GET', '/v1/authority');
  return (body as { readonly certificate: string }).certificate;
};

/** As a client does that trusts the cluster's root alone, and checks the name. */
const askStrictly = async (running: TestBed, hostname: string): Promise<string> => {
  const [host, port] = secureIngressOf(running).split(':');
  const ca = await rootOf(running);
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      { host, port, ca, servername: hostname, headers: { host: hostname }, agent: false },
      (response) => void readText(response).then(resolve, reject),
    );
    request.on('error', reject);
    request.end();
  });
};

const answers = (running: TestBed, hostname: string, text: string): Promise<void> =>
  eventually(async () => expect((await ask(running, hostname)).text).toContain(text), {
    describe: `${hostname} answers "${text}"`,
  });

const named = (name: string, image: string, hostname: string, more: Record<string, unknown> = {}) =>
  webSpec(name, image, {
    ...more,
    container: { ports: [], httpPorts: { '80': hostname }, ...(more['container'] as object) },
  });

const CLIENTS = 8;
/** Hundreds of requests a second meet each change; without a pause they would leave it no processor to be made on. */
const PAUSE_MS = 10;

/** What clients that ask all the time saw of the steps. @param others who ask in other ways meanwhile, one client each */
const underLoad = async (
  running: TestBed,
  hostname: string,
  steps: (load: Load) => Promise<void>,
  others: Readonly<Record<string, Partial<LoadOptions>>> = {},
): Promise<LoadReport & { readonly others: Readonly<Record<string, LoadReport>> }> => {
  const start = (more: Partial<LoadOptions>): Load =>
    startLoad({ address: ingressOf(running), hostname, clients: CLIENTS, pauseMs: PAUSE_MS, ...more });
  const load = start({});
  const asking = Object.entries(others).map(([who, more]) => [who, start({ clients: 1, ...more })] as const);
  try {
    await steps(load);
  } finally {
    await Promise.all([load.stop(), ...asking.map(([, one]) => one.stop())]);
  }
  return {
    ...load.report(),
    others: Object.fromEntries(asking.map(([who, one]) => [who, one.report()])),
  };
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

const DEPLOYS = 50;

scenario(
  'no request is lost over scaling and fifty rolling deploys',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const images = [await web('v1'), await web('v2')];
    await apply(instance, named('steady', images[0] ?? '', 'steady.localhost', { scale: 2 }));
    await answers(running, 'steady.localhost', 'web v1');
    await eventually(async () => expect(await askStrictly(running, 'steady.localhost')).toContain('web v1'), {
      describe: 'steady.localhost answers over HTTPS',
    });
    const secure = { address: secureIngressOf(running), root: await rootOf(running) };
    // Without a body: busybox closes its connection with what is left of one, whoever has sent it.
    const posting = { method: 'POST', path: '/cgi-bin/env' };
    const { answered, failures, others } = await underLoad(
      running,
      'steady.localhost',
      async () => {
        for (const scale of [6, 1, 2]) await change(instance, 'PATCH', '/v1/microservices/steady', { scale });
        for (let deploy = 1; deploy <= DEPLOYS; deploy += 1) {
          await apply(instance, named('steady', images[deploy % 2] ?? '', 'steady.localhost', { scale: 2 }));
        }
      },
      {
        'over HTTPS': secure,
        'that POST over HTTPS': { ...secure, ...posting },
        'that connect anew': { connectsAnew: true },
        'that connect anew over HTTPS': { ...secure, connectsAnew: true },
        'that connect anew and POST': { ...posting, connectsAnew: true },
      },
    );
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(DEPLOYS * 100);
    for (const [who, report] of Object.entries(others)) {
      expect([who, report.failures]).toEqual([who, []]);
      expect([who, report.answered > DEPLOYS * 10]).toEqual([who, true]);
    }
    await removeMicroservice(instance, 'steady');
  },
  600_000,
);

const MOVES = 4;

scenario(
  'a hostname moves between two microservices under load: no request is lost, and none led to a third one',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const pair = [
      named('giver', await web('v1'), 'moved.localhost'),
      named('taker', await web('v2'), 'moved.localhost'),
    ];
    await apply(instance, named('third', await web('v3'), 'third.localhost'));
    await apply(instance, { ...pair[0], scale: 2 });
    await answers(running, 'moved.localhost', 'web v1');
    await answers(running, 'third.localhost', 'web v3');
    const { failures, others, bodies } = await underLoad(
      running,
      'moved.localhost',
      async () => {
        for (let move = 1; move <= MOVES; move += 1) {
          const taken = await instance.api('POST', '/v1/microservices?moveHostnames=true&wait=60s', {
            body: { ...pair[move % 2], scale: 2 },
            timeoutMs: 90_000,
          });
          expect([taken.status, taken.body]).toEqual([200, expect.objectContaining({ state: 'succeeded' })]);
          // It is done when every node leads there.
          const version = move % 2 === 1 ? 'web v2' : 'web v1';
          for (let request = 0; request < 20; request += 1)
            expect((await ask(running, 'moved.localhost')).text).toContain(version);
          // Endpoints of others come and go meanwhile.
          await change(instance, 'PATCH', '/v1/microservices/third', { scale: (move % 2) + 1 });
        }
      },
      { 'that connect anew': { connectsAnew: true } },
    );
    for (const report of [{ failures, bodies }, ...Object.values(others)]) {
      expect(report.failures).toEqual([]);
      const versions = [...report.bodies.keys()].map((body) => /web v\d/.exec(body)?.[0]);
      expect([...new Set(versions)].sort()).toEqual(['web v1', 'web v2']);
    }
    for (const name of ['giver', 'taker', 'third']) await removeMicroservice(instance, name);
  },
  300_000,
);

scenario(
  'a Caddy that is killed loses the requests in it, and Consul none; what comes meanwhile waits',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    await apply(instance, named('firm', await web('v1'), 'firm.localhost', { scale: 2 }));
    await answers(running, 'firm.localhost', 'web v1');
    const killed = async (role: 'caddy' | 'consul'): Promise<void> => {
      const pid = instance.pid(role);
      instance.kill(role);
      await eventually(() => expect(instance.pid(role)).not.toBe(pid), { describe: `${role} runs again` });
    };
    const ofConsul = await underLoad(running, 'firm.localhost', async () => {
      await killed('consul');
      await change(instance, 'PATCH', '/v1/microservices/firm', { scale: 3 });
    });
    expect(ofConsul.failures).toEqual([]);
    const ofCaddy = await underLoad(running, 'firm.localhost', async (load) => {
      await killed('caddy');
      const { answered } = load.report();
      await eventually(() => expect(load.report().answered).toBeGreaterThan(answered + 2 * CLIENTS));
    });
    // A client has one request at a time.
    expect(ofCaddy.failures.length).toBeLessThanOrEqual(CLIENTS);
    expect(ofCaddy.failures.filter((why) => why.includes('REFUSED'))).toEqual([]);
    await removeMicroservice(instance, 'firm');
  },
  180_000,
);

const GRACE_MS = 8_000;

scenario(
  'a web socket and a long upload have the grace that they were promised over a deploy',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const image = await web('v1');
    const deploy = (version: string): Promise<unknown> => {
      const container = { ...longRequestServer(version), stopGraceSeconds: GRACE_MS / 1_000 };
      return apply(instance, named('slow', image, 'slow.localhost', { container }));
    };
    await deploy('one');
    await answers(running, 'slow.localhost', 'one got 0');

    const socket = await openWebSocket(ingressOf(running), 'slow.localhost');
    const size = 20;
    const upload = openUpload(ingressOf(running), 'slow.localhost', size);

    const old = (await replicas(instance, 'slow'))[0]?.id;
    const deployed = deploy('two');
    await eventually(
      async () => {
        const state = (await replicas(instance, 'slow')).find(({ id }) => id === old)?.state;
        expect(state).toBe('stopping');
      },
      { describe: 'the old replica is being stopped' },
    );
    const stoppingAt = performance.now();
    await answers(running, 'slow.localhost', 'two got 0');
    // For about half of the grace.
    for (let sent = 1; sent < size; sent += 1) {
      upload.send();
      await socket.echo(`${sent}`);
      await delay(GRACE_MS / 2 / size);
    }
    expect(await upload.answer()).toBe(`one got ${size}`);
    expect((await socket.closed()) - stoppingAt).toBeGreaterThan(GRACE_MS - 1_000);
    await deployed;
    await removeMicroservice(instance, 'slow');
  },
  180_000,
);

scenario(
  'a private hostname answers over HTTPS as soon as it does over HTTP, and with a certificate of one’s own at once',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    await apply(instance, named('secure', await web('v1'), 'secure.localhost'));
    await answers(running, 'secure.localhost', 'web v1');
    const routedAt = performance.now();
    await eventually(async () => expect(await askStrictly(running, 'secure.localhost')).toContain('web v1'), {
      describe: 'secure.localhost answers over HTTPS',
    });
    expect(performance.now() - routedAt).toBeLessThan(1_000);
    expect((await ask(running, 'secure.localhost')).status).toBe(200);
    const listed = await instance.api('GET', '/v1/certificates/secure.localhost');
    expect(listed.body).toMatchObject({ source: 'internal', state: 'valid' });

    const authority = createTestAuthority('Own Trust');
    try {
      const { certificatePem, keyPem } = authority.issue({
        commonName: 'secure',
        organisation: 'o',
        alternativeNames: ['DNS:secure.localhost'],
      });
      const body = { certificate: certificatePem, privateKey: keyPem };
      const given = await instance.api('PUT', '/v1/certificates/secure.localhost', { body });
      expect([given.status, given.body]).toEqual([200, expect.objectContaining({ source: 'uploaded' })]);
    } finally {
      authority.dispose();
    }
    await eventually(
      async () => {
        await expect(askStrictly(running, 'secure.localhost')).rejects.toThrow(
          /unable to (get|verify)|self.signed/,
        );
      },
      { describe: 'the uploaded certificate is shown' },
    );
    await instance.api('DELETE', '/v1/certificates/secure.localhost');
    await eventually(async () => expect(await askStrictly(running, 'secure.localhost')).toContain('web v1'), {
      describe: 'the cluster has issued one again',
    });
    await removeMicroservice(instance, 'secure');
  },
);

scenario(
  'a wildcard answers for every name below it but those that others have, also over HTTPS',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    await apply(instance, named('tenants', await web('v1'), '*.tenants.localhost'));
    await answers(running, 'one.tenants.localhost', 'web v1');
    await apply(instance, named('special', await web('v2'), 'two.tenants.localhost'));
    await answers(running, 'two.tenants.localhost', 'web v2');
    await answers(running, 'one.tenants.localhost', 'web v1');
    for (const [hostname, text] of [
      ['one.tenants.localhost', 'web v1'],
      ['two.tenants.localhost', 'web v2'],
    ] as const) {
      await eventually(async () => expect(await askStrictly(running, hostname)).toContain(text), {
        describe: `${hostname} answers over HTTPS`,
      });
    }
    const body = named('thief', await web('v1'), '*.TENANTS.localhost');
    const taken = await instance.api('POST', '/v1/microservices', { body });
    expect([taken.status, taken.text]).toEqual([409, expect.stringContaining('*.tenants.localhost')]);
    await removeMicroservice(instance, 'special');
    await answers(running, 'two.tenants.localhost', 'web v1');
    await removeMicroservice(instance, 'tenants');
  },
);
