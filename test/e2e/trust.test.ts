// `containeros trust` at the store of a Debian: afterwards a client that goes by the system's bundle opens the pages of
// the cluster, and nothing else has changed.
// Invariant: the machine's store itself is not touched: mounts of a namespace of its own stand for it, in which everything
// else can only be read.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { createTestAuthority } from '../support/certificates';
import { apply, scenario, startTestBed, webSpec, type TestBed } from '../support/product';
import { productCommand, productEnvironment } from '../support/product-process';
import { askStrictly } from '../support/strict-https';
import { eventually } from '../support/wait';

const isDebian = ['/usr/sbin/update-ca-certificates', '/usr/bin/dpkg-deb'].every((file) => existsSync(file));
const scenarioOnDebian: typeof scenario = isDebian ? scenario : (name) => test.skip(name, () => undefined);

/** $1: a folder of the test's; what follows is the command of the product. */
const STEPS = `
  folder=$1
  shift
  mount -o remount,bind,ro /
  for each in /usr/local/share/ca-certificates /etc/ssl/certs /etc/ca-certificates/update.d; do
    mount -t tmpfs tmpfs $each
  done
  cp $folder/company.crt /usr/local/share/ca-certificates/
  update-ca-certificates
  cp /etc/ssl/certs/ca-certificates.crt $folder/before
  "$@"
  cp /etc/ssl/certs/ca-certificates.crt $folder/trusting
  "$@" --uninstall
  cp /etc/ssl/certs/ca-certificates.crt $folder/after
`;

let bed: TestBed;

beforeAll(async () => {
  bed = await startTestBed();
}, 180_000);

afterAll(() => bed?.dispose(), 60_000);

const rootsIn = (bundle: string): readonly string[] =>
  bundle.split(/(?<=-----END CERTIFICATE-----)\s+/).sort();

scenarioOnDebian(
  'a client that trusts what the system does opens private hostnames once the root is in its store, and not without it',
  () => bed,
  async ({ engine, instance, web }) => {
    const hostname = 'shop.localhost';
    const container = { ports: [], httpPorts: { '80': hostname } };
    await apply(instance, webSpec('shop', await web(), { container }));
    const folder = '/run/trust';
    const out = (name: string): string => join(engine.pathOut(folder), name);
    mkdirSync(engine.pathOut(folder));
    const company = createTestAuthority('Company');
    writeFileSync(out('company.crt'), company.certificatePem);
    company.dispose();

    const { stdout } = await engine.exec(
      ['unshare', '--mount', 'sh', '-ec', STEPS, 'sh', folder, ...productCommand('trust')],
      {
        env: productEnvironment({
          CONTAINEROS_API_URL: `http://127.0.0.1:${instance.apiPort}`,
          CONTAINEROS_PASSWORD: instance.password,
          // Also where browsers have their stores.
          HOME: folder,
          TMPDIR: folder,
        }),
      },
    );
    expect(stdout).toContain('put into the system (Debian, Ubuntu, Alpine)');
    expect(stdout).toContain('taken out of the system (Debian, Ubuntu, Alpine)');
    const [before, trusting, after] = ['before', 'trusting', 'after'].map((name) =>
      readFileSync(out(name), 'utf8'),
    ) as [string, string, string];

    const ask = (root: string) =>
      askStrictly({ host: engine.loopbackAddress, port: instance.httpsPort, hostname, root });
    await eventually(async () => expect((await ask(trusting)).text).toContain('web v1'));
    for (const bundle of [before, after])
      await expect(ask(bundle)).rejects.toThrow(
        /unable to (?:get local issuer|verify the first) certificate/,
      );
    expect(before).toContain(company.certificatePem.trim());
    expect(rootsIn(trusting)).toHaveLength(rootsIn(before).length + 1);
    expect(rootsIn(after)).toEqual(rootsIn(before));
  },
);
