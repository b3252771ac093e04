// A wildcard on one machine, proved by DNS: the zone is kept by a real BIND, which the product changes by dynamic updates,
// and a real ACME server (Pebble) asks it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { CertificateView } from '../../openapi/schemas';
import { startNameServer, type NameServer } from '../support/name-server';
import { startPebble, type Pebble } from '../support/pebble';
import {
  apply,
  removeMicroservice,
  read,
  scenario,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { askStrictly } from '../support/strict-https';
import { eventually } from '../support/wait';
import { useWorld } from '../support/world';

const PATIENCE = { timeoutMs: 120_000, intervalMs: 250 };
const KEY = { name: 'acme.example.org', secret: 'b3VycyBmb3IgdGVzdHM=' };
const RECORD = '_acme-challenge.example.org';

let folder: string;
let nameServer: NameServer;
let pebble: Pebble;
let bed: TestBed;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-acme-'));
  const { ownerAddress: host } = await useWorld();
  // Servers of a zone are asked at their usual port.
  nameServer = await startNameServer([{ name: 'example.org', changedBy: KEY }], { host, port: 53 });
  pebble = await startPebble({ host, resolver: nameServer.address });
  const caFile = join(folder, 'ca.pem');
  writeFileSync(caFile, pebble.caPem);
  const credentialsFile = join(folder, 'credentials');
  writeFileSync(
    credentialsFile,
    [
      `RFC2136_NAMESERVER=${nameServer.address}`,
      `RFC2136_TSIG_KEY=${KEY.name}`,
      `RFC2136_TSIG_SECRET=${KEY.secret}`,
    ].join('\n'),
  );
  bed = await startTestBed({
    instance: {
      password: 'of these tests',
      flags: [
        ...['--acme-directory', pebble.directory, '--acme-ca-file', caFile],
        ...['--dns-provider', 'rfc2136', '--dns-credentials-file', credentialsFile],
      ],
      env: { CONTAINEROS_ACME_RESOLVER: nameServer.address },
    },
  });
}, 180_000);

afterAll(async () => {
  await bed?.dispose();
  await pebble?.close();
  await nameServer?.close();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

const deploy = async ({ instance, web }: TestBed, name: string, hostnames: readonly string[]) =>
  apply(instance, webSpec(name, await web(), { container: { ports: [], httpPorts: { '80': hostnames } } }));

const viewOf = ({ instance }: TestBed, hostname: string): Promise<CertificateView> =>
  read(instance, `/v1/certificates/${encodeURIComponent(hostname)}`);

scenario(
  'a wildcard, and its domain beside it, are proved by records in DNS, which are gone afterwards',
  () => bed,
  async (running) => {
    const root = await pebble.rootPem();
    const ask = (hostname: string) => askStrictly({ host: running.engine.address, hostname, root });
    const seen = new Set<string>();
    // What the authority finds in DNS when it is told to look.
    pebble.answer(async ({ method, path }) => {
      if (method === 'POST' && path.startsWith('/chalZ/'))
        for (const value of await nameServer.txt(RECORD)) seen.add(value);
      return undefined;
    });
    await deploy(running, 'tenants', ['*.example.org', 'example.org']);
    await eventually(
      async () => {
        for (const hostname of ['one.example.org', 'other.example.org', 'example.org'])
          expect((await ask(hostname)).text).toContain('web v1');
      },
      { ...PATIENCE, describe: 'the wildcard and its domain answer over HTTPS' },
    );
    const serials = await Promise.all(['one.example.org', 'other.example.org'].map(ask));
    expect(new Set(serials.map(({ serial }) => serial)).size).toBe(1);
    // It is one label that it stands for.
    await expect(ask('far.one.example.org')).rejects.toThrow();
    for (const hostname of ['*.example.org', 'example.org'])
      await eventually(
        async () =>
          expect(await viewOf(running, hostname)).toMatchObject({
            state: 'valid',
            source: 'acme',
            directory: pebble.directory,
            hostnames: [hostname],
            issuing: { state: 'issued', failedAttempts: 0 },
          }),
        PATIENCE,
      );
    // Each has a record of its own, at one name.
    expect(seen.size).toBe(2);
    await eventually(async () => expect(await nameServer.txt(RECORD)).toEqual([]), PATIENCE);
    await removeMicroservice(running.instance, 'tenants');
  },
  180_000,
);
