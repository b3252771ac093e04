/**
 * What one installation keeps in its data directory: its id, its password, its internal token, and the pids of what
 * runs.
 *
 * Invariants: secrets are files of mode 0600, written whole or not at all; every process of an installation reads the
 * same ones.
 */

import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { ContainerOsError } from '../domain/errors';

import type { Config } from './config';

export interface Installation {
  readonly clusterId: string;
  readonly password: string;
  /** Whether the password was generated at this start. */
  readonly passwordIsNew: boolean;
  readonly passwordFile: string;
  /** Known to ContainerOS's own processes only. */
  readonly internalToken: string;
}

export const readIfThere = (file: string): string | undefined => {
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
};

/** Writes a file for its owner alone, whole or not at all. */
export const writePrivateFile = (file: string, text: string): void => {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, text, { mode: 0o600 });
  renameSync(draft, file);
};

/** Reads a file, or makes it with a generated content. Of two processes that make it at once, one wins. */
export const keepSecret = (
  file: string,
  generate: () => string,
): { readonly value: string; readonly isNew: boolean } => {
  const known = readIfThere(file);
  if (known !== undefined) return { value: known, isNew: false };
  const value = generate();
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${value}\n`, { mode: 0o600 });
  try {
    linkSync(draft, file);
    return { value, isNew: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return { value: readIfThere(file) ?? value, isNew: false };
  } finally {
    unlinkSync(draft);
  }
};

export const runDirectory = (config: Pick<Config, 'dataDir'>): string => join(config.dataDir, 'run');

/** What an error in writing there means, for people. */
export const unusable = (config: Pick<Config, 'dataDir'>, error: unknown) =>
  new ContainerOsError(
    'invalid',
    `The data directory ${config.dataDir} cannot be used: ${(error as Error).message}. Make it writable, or choose another with --data-dir.`,
    [],
    { cause: error },
  );

/** On a disk that takes nothing, making parents too would say that they are not there. */
const makeDirectory = (path: string): void => {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
};

/**
 * Makes the data directory and its folder of pids, where they are missing.
 *
 * @throws ContainerOsError `invalid` when it cannot be written
 */
export const openRunDirectory = (config: Pick<Config, 'dataDir'>): void => {
  try {
    mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
    makeDirectory(runDirectory(config));
  } catch (error) {
    throw unusable(config, error);
  }
};

/**
 * Opens the data directory, making what is missing.
 *
 * @throws ContainerOsError `invalid` when it cannot be written
 */
export const openInstallation = (config: Config): Installation => {
  openRunDirectory(config);
  try {
    const passwordFile = join(config.dataDir, 'password');
    const generated =
      config.password === undefined
        ? keepSecret(passwordFile, () => randomBytes(18).toString('base64url'))
        : { value: config.password, isNew: false };
    if (config.password === undefined) chmodSync(passwordFile, 0o600);
    return {
      clusterId: keepSecret(join(config.dataDir, 'cluster-id'), () => randomBytes(6).toString('hex')).value,
      password: generated.value,
      passwordIsNew: generated.isNew,
      passwordFile,
      internalToken: keepSecret(join(config.dataDir, 'internal-token'), () =>
        randomBytes(32).toString('base64url'),
      ).value,
    };
  } catch (error) {
    throw unusable(config, error);
  }
};
