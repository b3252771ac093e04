/** Where the ingress of this machine has its files, and how Caddy is to listen. */

import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { assertPlainPath, type CaddySettings } from '../adapters/ingress/caddy-config';
import type { CertificateDoor } from '../adapters/ingress/caddy-tls';
import { ContainerOsError } from '../domain/errors';
import { hostPort } from '../domain/host-port';

import { isLoopback, type Config } from './config';
import { readIfThere, writePrivateFile } from './installation';

/** What of the configuration the ingress goes by, once its ports have been chosen. */
export type IngressConfig = Config & { readonly httpPort: number };

export const ingressDirectory = ({ dataDir }: Pick<Config, 'dataDir'>): string => join(dataDir, 'ingress');

/** What Caddy starts with. */
export const ingressConfigFile = (config: Pick<Config, 'dataDir'>): string =>
  join(ingressDirectory(config), 'caddy.json');

/** How Caddy calls a socket that the supervisor keeps for it. @param index among `ingressPortNeeds` (up/ports) */
const socketGiven = (index: number): string => `fd/${3 + index}`;

/** Where Caddy asks itself for certificates: a port of the loopback interface, and what only Caddy says there. */
const doorFile = (config: Pick<Config, 'dataDir'>): string => join(ingressDirectory(config), 'door');

const DOOR = /^(\d{1,5}) ([A-Za-z0-9_-]{20,})$/;

const readDoor = (config: Pick<Config, 'dataDir'>): CertificateDoor | undefined => {
  const [, port, password] = DOOR.exec(readIfThere(doorFile(config)) ?? '') ?? [];
  return port === undefined || password === undefined ? undefined : { port: Number(port), password };
};

/** Chooses it for what is about to start; the password is another one each time. @param port that is free */
export const writeDoor = (config: Pick<Config, 'dataDir'>, port: number): void => {
  mkdirSync(ingressDirectory(config), { recursive: true, mode: 0o700 });
  writePrivateFile(doorFile(config), `${port} ${randomBytes(24).toString('base64url')}\n`);
};

/** @throws {ContainerOsError} `invalid` when the path of the data directory cannot be told to Caddy */
export const caddySettings = (config: IngressConfig): CaddySettings => {
  const directory = ingressDirectory(config);
  try {
    assertPlainPath(directory);
  } catch (error) {
    throw new ContainerOsError(
      'invalid',
      `${(error as Error).message}. Choose another data directory with --data-dir, or start with --no-ingress.`,
      [],
      { cause: error },
    );
  }
  const door = readDoor(config);
  return {
    directory,
    listen: socketGiven(0),
    port: config.httpPort,
    trustedProxies: config.trustedProxies,
    ...(config.httpsPort === undefined || door === undefined
      ? {}
      : {
          https: {
            listen: socketGiven(1),
            listenQuic: hostPort(ingressHost(config), config.httpsPort),
            port: config.httpsPort,
            door,
          },
        }),
  };
};

/** With --dev, and where only this machine can be reached, everything stays on it. */
export const ingressHost = ({ dev, advertiseAddress }: Pick<Config, 'dev' | 'advertiseAddress'>): string =>
  dev || isLoopback(advertiseAddress) ? '127.0.0.1' : '';
