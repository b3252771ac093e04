/**
 * Certificate authorities and certificates for tests, made with openssl: EC P-256, as the cluster's own.
 *
 * Invariant: everything of one authority is in a folder of its own, which `dispose` removes.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificate {
  readonly certificatePem: string;
  readonly keyPem: string;
}

export interface CertificateOptions {
  readonly commonName: string;
  readonly organisation: string;
  /** How long it is valid, from now on; less than 0: it was, until so long ago. */
  readonly validForMs?: number;
  /** Names and addresses, as openssl has them: `IP:127.0.0.1`. */
  readonly alternativeNames?: readonly string[];
}

export interface TestAuthority {
  readonly certificatePem: string;
  issue(options: CertificateOptions): Certificate;
  dispose(): void;
}

const DAY_MS = 86_400_000;

/** As `openssl ca` takes it. */
const asn1Time = (atMs: number): string =>
  new Date(atMs)
    .toISOString()
    .replace(/[-:T]/g, '')
    .replace(/\.\d+Z$/, 'Z');

const CONFIG = (folder: string) => `
[ca]
default_ca = own
[own]
database = ${folder}/index
new_certs_dir = ${folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
[any]
organizationName = optional
commonName = supplied
`;

export const createTestAuthority = (organisation: string): TestAuthority => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-test-authority-'));
  const path = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const makeKey = (name: string) =>
    openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', path(name));
  writeFileSync(path('index'), '');
  writeFileSync(path('config'), CONFIG(folder));
  makeKey('authority.key');
  openssl(
    ...['req', '-x509', '-new', '-key', path('authority.key'), '-days', '30', '-out', path('authority.pem')],
    ...['-subj', `/O=${organisation}/CN=authority`],
  );
  let count = 0;

  return {
    certificatePem: readFileSync(path('authority.pem'), 'utf8'),
    issue: ({ commonName, organisation: ofCluster, validForMs = DAY_MS, alternativeNames = [] }) => {
      count += 1;
      const name = (kind: string) => path(`${count}.${kind}`);
      makeKey(`${count}.key`);
      const subject = `/O=${ofCluster}/CN=${commonName}`;
      openssl('req', '-new', '-key', name('key'), '-subj', subject, '-out', name('csr'));
      const extensions = [
        'basicConstraints = CA:FALSE',
        'extendedKeyUsage = clientAuth, serverAuth',
        ...(alternativeNames.length === 0 ? [] : [`subjectAltName = ${alternativeNames.join(', ')}`]),
      ];
      writeFileSync(name('extensions'), extensions.join('\n'));
      const until = Date.now() + validForMs;
      openssl(
        ...['ca', '-batch', '-notext', '-config', path('config'), '-in', name('csr'), '-out', name('pem')],
        ...[
          '-cert',
          path('authority.pem'),
          '-keyfile',
          path('authority.key'),
          '-extfile',
          name('extensions'),
        ],
        ...['-startdate', asn1Time(Math.min(Date.now(), until) - DAY_MS), '-enddate', asn1Time(until)],
      );
      return {
        certificatePem: readFileSync(name('pem'), 'utf8'),
        keyPem: readFileSync(name('key'), 'utf8'),
      };
    },
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
};
