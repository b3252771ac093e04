// Public hostnames on one machine, with two real ACME servers (Pebble) of which the first one does not do what it should:
// the second one issues, and whatever they do, nothing else waits for them.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Client, Connection } from '@temporalio/client';

import { certificateWorkflowId } from '../../contracts/certificate-workflow';
import type { CertificateView } from '../../openapi/schemas';
import { httpRequest } from '../support/http';
import { startLoad } from '../support/load';
import { startPebble, type Pebble } from '../support/pebble';
import { apply, events, read, scenario, startTestBed, webSpec, type TestBed } from '../support/product';
import { askStrictly } from '../support/strict-https';
import { eventually } from '../support/wait';
import { useWorld } from '../support/world';

const PATIENCE = { timeoutMs: 120_000, intervalMs: 250 };
/** What is asked of an authority when an order is placed, and when it is to be certified. */
const ORDERED = '/order-plz';
const FINALISED = '/finalize-order/';

let folder: string;
let first: Pebble;
let second: Pebble;
let bed: TestBed;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-acme-'));
  const world = await useWorld();
  first = await startPebble({ host: world.ownerAddress, httpPort: 80 });
  second = await startPebble({ host: world.ownerAddress, httpPort: 80, resolver: first.resolver });
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, `${first.caPem}\n${second.caPem}`);
  bed = await startTestBed({
    instance: {
      password: 'of these tests',
      flags: [
        ...['--acme-directory', first.directory, '--acme-fallback-directory', second.directory],
        ...['--acme-ca-file', caFile],
      ],
      env: { CONTAINEROS_ACME_RESOLVER: first.resolver },
    },
  });
  await first.dns('set-default-ipv4', { ip: bed.engine.address });
}, 180_000);

afterEach(() => {
  first?.answer(undefined);
  second?.answer(undefined);
});

afterAll(async () => {
  await bed?.dispose();
  await first?.close();
  await second?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const deploy = async ({ instance, web }: TestBed, name: string, hostnames: string | readonly string[]) =>
  apply(instance, webSpec(name, await web(), { container: { ports: [], httpPorts: { '80': hostnames } } }));

const viewOf = ({ instance }: TestBed, hostname: string): Promise<CertificateView> =>
  read(instance, `/v1/certificates/${hostname}`);

const ask = ({ engine }: TestBed, hostname: string, root: string) =>
  askStrictly({ host: engine.address, hostname, root });

const askPlainly = ({ engine, instance }: TestBed, hostname: string, path = '/') =>
  httpRequest(`http://${engine.address}:${instance.httpPort}${path}`, { headers: { host: hostname } });

/** What the Web UI shows as the details of the workflow of a certificate. */
const detailsOf = async ({ instance }: TestBed, hostname: string): Promise<string> => {
  const connection = await Connection.connect({ address: instance.temporalAddress });
  try {
    const handle = new Client({ connection }).workflow.getHandle(certificateWorkflowId(hostname));
    const { currentDetails } = await handle.query<{ readonly currentDetails: string }>(
      '__temporal_workflow_metadata',
    );
    return currentDetails;
  } finally {
    await connection.close();
  }
};

/** Waits until a certificate of this authority, and of no other, is served, and told of by the API. */
const assertIssuedBy = async (running: TestBed, authority: Pebble, hostname: string): Promise<void> => {
  const root = await authority.rootPem();
  await eventually(async () => expect((await ask(running, hostname, root)).text).toContain('web v1'), {
    ...PATIENCE,
    describe: `${hostname} answers over HTTPS`,
  });
  await eventually(async () => {
    const { issuer = 'nobody', ...view } = await viewOf(running, hostname);
    expect(view).toMatchObject({
      state: 'valid',
      source: 'acme',
      directory: authority.directory,
      hostnames: [hostname],
      issuing: { state: 'issued', failedAttempts: 0 },
    });
    expect(issuer).toMatch(/^Pebble Intermediate CA [0-9a-f]+$/);
    expect(view.issuing?.message).toMatch(new RegExp(`^${issuer} has issued it, valid until `));
    const told = (await events(running.instance, 'limit=500')).filter(({ message }) =>
      message.includes(hostname),
    );
    expect(told.map(({ type }) => type)).toContain('certificate.issued');
    expect(told.map(({ type }) => type)).not.toContain('certificate.failed');
  }, PATIENCE);
};

scenario(
  'when the first authority is gone, the second one issues at once, the API says which one did, and HTTP leads to HTTPS',
  () => bed,
  async (running) => {
    const hostname = 'gone.example.org';
    await first.stop();
    try {
      await deploy(running, 'gone', hostname);
      await assertIssuedBy(running, second, hostname);
      const { status, headers } = await askPlainly(running, hostname, '/cart?item=1');
      expect([status, headers.location]).toEqual([308, `https://${hostname}/cart?item=1`]);
    } finally {
      await first.restart();
    }
    // The first one again, from the next hostname on.
    await deploy(running, 'back', 'back.example.org');
    await assertIssuedBy(running, first, 'back.example.org');
  },
);

scenario(
  'when the first authority refuses, in the midst of an order too, the second one issues',
  () => bed,
  async (running) => {
    for (const [name, path, status, type] of [
      ['refused', ORDERED, 403, 'rejectedIdentifier'],
      ['troubled', FINALISED, 500, 'serverInternal'],
    ] as const) {
      let refusals = 0;
      first.answer((asked) => {
        if (asked.method !== 'POST' || !asked.path.startsWith(path)) return undefined;
        refusals += 1;
        return { status, body: { type: `urn:ietf:params:acme:error:${type}`, detail: 'not here' } };
      });
      await deploy(running, name, `${name}.example.org`);
      await assertIssuedBy(running, second, `${name}.example.org`);
      expect(refusals).toBeGreaterThan(0);
    }
  },
);

scenario(
  'while authorities take requests and say nothing, others answer and deploy as ever, and what waits says why',
  () => bed,
  async (running) => {
    const { instance, engine } = running;
    const [served, waiting, meanwhile] = ['served.example.org', 'waiting.example.org', 'meanwhile.localhost'];
    await deploy(running, 'served', served);
    await assertIssuedBy(running, first, served);
    const root = await first.rootPem();
    let letGo = (): void => undefined;
    const silence = new Promise<undefined>((resolve) => (letGo = () => resolve(undefined)));
    for (const authority of [first, second]) {
      authority.takeRequests();
      authority.answer(() => silence);
    }
    const load = { hostname: served, clients: 2, pauseMs: 10 };
    const loads = [
      startLoad({ ...load, address: `${engine.address}:${instance.httpsPort}`, root }),
      startLoad({ ...load, address: `${engine.address}:${instance.httpsPort}`, root, connectsAnew: true }),
    ];
    try {
      const more = Array.from({ length: 4 }, (_, i) => `waiting-${i}.example.org`);
      expect(await deploy(running, 'waiting', [waiting, ...more])).toMatchObject({ state: 'succeeded' });
      await eventually(() => expect(first.takeRequests()).not.toEqual([]), PATIENCE);
      expect(await viewOf(running, waiting)).toMatchObject({
        state: 'issuing',
        message: 'There is none yet. It is asked for: there is none that can be used.',
      });
      expect(await deploy(running, 'meanwhile', meanwhile)).toMatchObject({ state: 'succeeded' });
      const answer = await askPlainly(running, meanwhile);
      expect(answer.text).toContain('web v1');
      expect(await viewOf(running, waiting)).toMatchObject({ state: 'issuing' });

      const why = /does not answer: it took more than 30 s\..* does not answer: it took more than 30 s\./;
      await eventually(
        async () =>
          expect(await viewOf(running, waiting)).toMatchObject({
            state: 'failing',
            message: expect.stringMatching(why) as string,
            issuing: { failedAttempts: 1, lastError: { kind: 'authority' } },
          }),
        PATIENCE,
      );
      expect(await detailsOf(running, waiting)).toMatch(/^Waits until .* does not answer: it took more than/);
    } finally {
      letGo();
      for (const authority of [first, second]) authority.answer(undefined);
      await Promise.all(loads.map((one) => one.stop()));
    }
    const reports = loads.map((one) => one.report());
    expect(reports.map(({ failures }) => failures)).toEqual([[], []]);
    for (const { answered } of reports) expect(answered).toBeGreaterThan(500);
    expect((await instance.api('POST', `/v1/certificates/${waiting}/retry`)).status).toBe(202);
    await eventually(
      async () => expect((await ask(running, waiting, root)).text).toContain('web v1'),
      PATIENCE,
    );
  },
  240_000,
);
