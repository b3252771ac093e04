/**
 * What the head node, whose machine runs the control plane, keeps of its cluster in the data directory: the authority,
 * the key of the gossip, the token that manages Consul, the certificate that its servers show, and the key that private
 * keys of hostnames are sealed with.
 *
 * Invariants: all files are for their owner alone; the authority and the secrets are made once and never replaced; the
 * servers' certificate is made anew at each start, for the address that the machine has then, and is of use only with
 * the key beside it.
 */

import { X509Certificate, createPrivateKey, randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { generateClusterKey } from '../../adapters/certificates/seal';
import type { Authority } from '../../contracts/authority';
import { consulAddressOf, isJoinable, type Config } from '../config';
import { keepSecret, readIfThere, writePrivateFile } from '../installation';
import type { ConsulTlsFiles } from '../up/consul-settings';

const directoryOf = ({ dataDir }: Pick<Config, 'dataDir'>): string => join(dataDir, 'cluster');
const authorityFilesOf = (config: Pick<Config, 'dataDir'>) => ({
  certificate: join(directoryOf(config), 'authority.pem'),
  key: join(directoryOf(config), 'authority-key.pem'),
});

/** The files that Consul reads; `writeServerCertificate` makes them. */
export const serverTlsFiles = (config: Config): ConsulTlsFiles => ({
  authorityFile: authorityFilesOf(config).certificate,
  certificateFile: join(directoryOf(config), 'server.pem'),
  keyFile: join(directoryOf(config), 'server-key.pem'),
});

/** Base64 of 32 bytes, as Consul wants it. */
export const gossipKeyOf = (config: Pick<Config, 'dataDir'>): string => {
  mkdirSync(directoryOf(config), { recursive: true, mode: 0o700 });
  return keepSecret(join(directoryOf(config), 'gossip-key'), () => randomBytes(32).toString('base64')).value;
};

/** The token that may do everything in the embedded Consul, once it has to be shown tokens. */
export const managementTokenOf = (config: Pick<Config, 'dataDir'>): string => {
  mkdirSync(directoryOf(config), { recursive: true, mode: 0o700 });
  return keepSecret(join(directoryOf(config), 'consul-management-token'), randomUUID).value;
};

/** What private keys of hostnames are sealed with in Consul, base64 (adapters/certificates/seal). Joinable or not. */
export const clusterKeyOf = (config: Pick<Config, 'dataDir'>): string => {
  mkdirSync(directoryOf(config), { recursive: true, mode: 0o700 });
  return keepSecret(join(directoryOf(config), 'cluster-key'), generateClusterKey).value;
};

/** How the roles on this machine reach Consul. */
export const consulOf = (config: Config): { readonly address: string; readonly token?: string } => {
  const token = isJoinable(config) ? managementTokenOf(config) : config.consulToken;
  return { address: consulAddressOf(config), ...(token === undefined ? {} : { token }) };
};

/**
 * Opens the cluster's authority, making it at the first start.
 *
 * @throws {Error} when its files do not belong together or cannot be read
 */
export const openHeadAuthority = async (config: Config, clusterId: string): Promise<Authority> => {
  // Loaded only where it is used: it would make every process some megabytes larger.
  const { createAuthority, openAuthority } = await import('../../adapters/certificates/authority.js');
  const files = authorityFilesOf(config);
  mkdirSync(directoryOf(config), { recursive: true, mode: 0o700 });
  if (readIfThere(files.certificate) === undefined) {
    const made = await createAuthority({ clusterId, nowMs: Date.now() });
    // The certificate comes last: without it, the next start makes both anew.
    writePrivateFile(files.key, made.keyPem);
    writePrivateFile(files.certificate, made.certificatePem);
  }
  return openAuthority({
    certificatePem: readFileSync(files.certificate, 'utf8'),
    keyPem: readFileSync(files.key, 'utf8'),
  });
};

export interface ServerCertificate {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** Makes the certificate that the cluster port and Consul show, for the address that the machine has now. */
export const issueServerCertificate = async (
  config: Config,
  clusterId: string,
  authority: Authority,
): Promise<ServerCertificate> => {
  const issued = await authority.issueServerCertificate({
    hosts: [config.advertiseAddress, config.nodeId, hostname()],
    commonName: config.nodeId,
    clusterId,
    nowMs: Date.now(),
  });
  // With the authority, so that a machine that wants to join can compare it with its token.
  return { ...issued, certificatePem: `${issued.certificatePem}${authority.certificatePem}` };
};

export const writeServerCertificate = (
  config: Config,
  { certificatePem, keyPem }: ServerCertificate,
): void => {
  const files = serverTlsFiles(config);
  writePrivateFile(files.keyFile, keyPem);
  writePrivateFile(files.certificateFile, certificatePem);
};

/** What was written last; undefined when whoever wrote it was killed between the one file and the other. */
const readServerCertificate = (config: Config): ServerCertificate | undefined => {
  const files = serverTlsFiles(config);
  const [certificatePem, keyPem] = [readIfThere(files.certificateFile), readIfThere(files.keyFile)];
  if (certificatePem === undefined || keyPem === undefined) return undefined;
  const isPair = new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem));
  return isPair ? { certificatePem, keyPem } : undefined;
};

/** What was written last; made anew when that cannot be shown. Whoever wrote it has left the mark for Consul, too. */
export const openServerCertificate = async (
  config: Config,
  clusterId: string,
  authority: Authority,
): Promise<ServerCertificate> => {
  const known = readServerCertificate(config);
  if (known !== undefined) return known;
  const issued = await issueServerCertificate(config, clusterId, authority);
  writeServerCertificate(config, issued);
  return issued;
};

/** There while Consul has to read a certificate that was renewed. */
export const serverReloadMark = (config: Config): string => join(directoryOf(config), 'reload-due');
