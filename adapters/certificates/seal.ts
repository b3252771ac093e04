/**
 * Seals private texts with the cluster's key, so that they can stand in Consul: AES-256-GCM.
 *
 * Invariants: a sealed text can be opened only with the key that it was sealed with, and only as what it was sealed
 * for; it names that key (by a hash), so that another key is told from a spoiled text; no error tells the text.
 */

import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

import { ContainerOsError } from '../../domain/errors';

export const CLUSTER_KEY_BYTES = 32;

const VERSION = 'sealed1';
const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;
const KEY_ID_CHARACTERS = 12;
const SEALED = /^sealed1\.([0-9a-f]{12})\.([A-Za-z0-9_-]+)$/;

export interface Sealer {
  /** Of the key, without telling it. */
  readonly keyId: string;
  /** @param purpose what it is for, like the hostname of a certificate: it has to be given again to open it */
  seal(text: string, purpose: string): string;
  /** @throws {ContainerOsError} `internal` when it is no such text, was sealed with another key, or for something else */
  open(sealed: string, purpose: string): string;
}

/** Base64 of a new key. */
export const generateClusterKey = (): string => randomBytes(CLUSTER_KEY_BYTES).toString('base64');

/** The id of the key that a text was sealed with; undefined when it is no sealed text. */
export const keyIdOf = (sealed: string): string | undefined => SEALED.exec(sealed)?.[1];

const unopened = (purpose: string, why: string, cause?: unknown): ContainerOsError =>
  new ContainerOsError('internal', `What is sealed for ${purpose} cannot be opened: ${why}.`, [], { cause });

/**
 * @param clusterKey base64 of 32 bytes
 * @throws {RangeError} when it is no such key
 */
export const createSealer = (clusterKey: string): Sealer => {
  const key = Buffer.from(clusterKey, 'base64');
  if (key.length !== CLUSTER_KEY_BYTES || key.toString('base64') !== clusterKey) {
    throw new RangeError(`the cluster key is not base64 of ${CLUSTER_KEY_BYTES} bytes`);
  }
  const keyId = createHash('sha256').update(key).digest('hex').slice(0, KEY_ID_CHARACTERS);
  return {
    keyId,
    seal: (text, purpose) => {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv(CIPHER, key, iv).setAAD(Buffer.from(purpose));
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
      return `${VERSION}.${keyId}.${Buffer.concat([iv, cipher.getAuthTag(), body]).toString('base64url')}`;
    },
    open: (sealed, purpose) => {
      const [, sealedWith, encoded] = SEALED.exec(sealed) ?? [];
      if (sealedWith === undefined || encoded === undefined) {
        throw unopened(purpose, 'it is no text that ContainerOS has sealed');
      }
      if (sealedWith !== keyId) {
        throw unopened(
          purpose,
          `it was sealed with the cluster key ${sealedWith}, and this machine has ${keyId}. Put the key of that time back (the file cluster/cluster-key in the data directory of the first machine), or have it made anew`,
        );
      }
      const bytes = Buffer.from(encoded, 'base64url');
      if (bytes.length < IV_BYTES + TAG_BYTES) throw unopened(purpose, 'it is cut off');
      try {
        const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, IV_BYTES), {
          authTagLength: TAG_BYTES,
        })
          .setAAD(Buffer.from(purpose))
          .setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
        const body = decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES));
        return Buffer.concat([body, decipher.final()]).toString('utf8');
      } catch (error) {
        throw unopened(purpose, 'it was changed, or sealed for something else', error);
      }
    },
  };
};
