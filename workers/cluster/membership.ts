/**
 * What a machine that has joined keeps of its membership in the data directory.
 *
 * Invariants: files are for their owner alone; the settings are written last, so that a machine has either joined or
 * not; the certificate is replaced whole. The private key never leaves the machine.
 */

import { X509Certificate, createPrivateKey } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import type { NodeCredentials } from '../../adapters/cluster-port/port-client';
import type { ConsulMembership, JoinAnswer } from '../../contracts/join';
import { ContainerOsError } from '../../domain/errors';
import { mismatch, type Shape } from '../../domain/shape';
import type { Config } from '../config';
import { readIfThere, writePrivateFile } from '../installation';
import type { ConsulTlsFiles } from '../up/consul-settings';

type Place = Pick<Config, 'dataDir'>;

/** What is written down of a membership; keys and certificates are files of their own, which Consul reads. */
export interface Membership {
  readonly nodeId: string;
  readonly clusterId: string;
  /** host:port of the cluster port. */
  readonly clusterAddress: string;
  /** SHA-256 of the authority's certificate, in hex. */
  readonly authorityFingerprint: string;
  readonly temporalNamespace: string;
  readonly consul: ConsulMembership;
}

const directoryOf = ({ dataDir }: Place): string => join(dataDir, 'membership');
const settingsFile = (place: Place): string => join(directoryOf(place), 'membership.json');

export const memberTlsFiles = (place: Place): ConsulTlsFiles => ({
  authorityFile: join(directoryOf(place), 'authority.pem'),
  certificateFile: join(directoryOf(place), 'node.pem'),
  keyFile: join(directoryOf(place), 'node-key.pem'),
});

/** There while the Consul agent has to read a certificate that was renewed. */
export const memberReloadMark = (place: Place): string => join(directoryOf(place), 'reload-due');

const SHAPE: Shape<Membership> = {
  nodeId: 'text',
  clusterId: 'text',
  clusterAddress: 'text',
  authorityFingerprint: 'text',
  temporalNamespace: 'text',
  consul: { gossipKey: 'text', serverAddress: 'text', token: 'text' },
};

const parseMembership = (text: string): Membership => {
  const value: unknown = JSON.parse(text);
  const problem = mismatch<Membership>(value, SHAPE);
  if (problem !== undefined) throw new Error(problem);
  return value as Membership;
};

/**
 * @returns undefined when the machine has not joined
 * @throws {ContainerOsError} `invalid` when the files cannot be read
 */
export const readMembership = (place: Place): Membership | undefined => {
  const file = settingsFile(place);
  try {
    const text = readIfThere(file);
    return text === undefined ? undefined : parseMembership(text);
  } catch (error) {
    // The key beside it stays: with it the machine may have its name again.
    throw new ContainerOsError(
      'invalid',
      `The membership in ${file} cannot be read: ${(error as Error).message}. Mend the file, or remove it and join again with a new token.`,
      [],
      { cause: error },
    );
  }
};

/**
 * Looks whether a member has what it shows to the cluster.
 *
 * @throws {ContainerOsError} `invalid` when it cannot show it
 */
export const assertCredentials = (place: Place, { nodeId }: Membership): void => {
  try {
    const { authorityPem, certificatePem, keyPem } = readCredentials(place);
    const certificate = new X509Certificate(certificatePem);
    if (!certificate.verify(new X509Certificate(authorityPem).publicKey)) {
      throw new Error('the certificate is not one of the authority');
    }
    if (!certificate.checkPrivateKey(createPrivateKey(keyPem))) {
      throw new Error('the key is not that of the certificate');
    }
  } catch (error) {
    throw new ContainerOsError(
      'invalid',
      `The certificate and the key of node ${nodeId} in ${directoryOf(place)} cannot be used: ${(error as Error).message}. Put the files back if there is a copy; or remove that folder, have the node removed (containeros remove ${nodeId} --force), and join again with a new token.`,
      [],
      { cause: error },
    );
  }
};

export const readCredentials = (place: Place): NodeCredentials => {
  const { authorityFile, certificateFile, keyFile } = memberTlsFiles(place);
  return {
    authorityPem: readFileSync(authorityFile, 'utf8'),
    certificatePem: readFileSync(certificateFile, 'utf8'),
    keyPem: readFileSync(keyFile, 'utf8'),
  };
};

/** The key of this machine, if it has asked to join before: who asks again with it is the same machine. */
export const readMemberKey = (place: Place): string | undefined => readIfThere(memberTlsFiles(place).keyFile);

/** Kept before it is shown to anybody. */
export const writeMemberKey = (place: Place, keyPem: string): void => {
  mkdirSync(directoryOf(place), { recursive: true, mode: 0o700 });
  writePrivateFile(memberTlsFiles(place).keyFile, keyPem);
};

export const writeMemberCertificate = (place: Place, certificatePem: string): void =>
  writePrivateFile(memberTlsFiles(place).certificateFile, certificatePem);

export const writeMembership = (
  place: Place,
  membership: Membership,
  { certificatePem, authorityPem }: Pick<JoinAnswer, 'certificatePem' | 'authorityPem'>,
): void => {
  writePrivateFile(memberTlsFiles(place).authorityFile, authorityPem);
  writeMemberCertificate(place, certificatePem);
  writePrivateFile(settingsFile(place), `${JSON.stringify(membership, null, 2)}\n`);
};

const clusterKeyFile = (place: Place): string => join(directoryOf(place), 'cluster-key');

/** What private keys of hostnames are sealed with; undefined when the machine has not been given it yet. */
export const readMemberClusterKey = (place: Place): string | undefined => readIfThere(clusterKeyFile(place));

export const writeMemberClusterKey = (place: Place, clusterKey: string): void =>
  writePrivateFile(clusterKeyFile(place), `${clusterKey}\n`);

/** Forgets the membership, its key, and what Consul's agent knows. */
export const removeMembership = (place: Place): void => {
  rmSync(settingsFile(place), { force: true });
  rmSync(directoryOf(place), { recursive: true, force: true });
  rmSync(join(place.dataDir, 'consul'), { recursive: true, force: true });
};
