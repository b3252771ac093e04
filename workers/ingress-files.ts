/** Where the ingress of this machine has its files, and how Caddy is to listen. */

import { join } from 'node:path';

import { assertPlainPath, type CaddySettings } from '../adapters/ingress/caddy-config';
import { ContainerOsError } from '../domain/errors';

import { isLoopback, type Config } from './config';

/** What of the configuration the ingress goes by, once its port has been chosen. */
export type IngressConfig = Config & { readonly httpPort: number };

const ingressDirectory = ({ dataDir }: Pick<Config, 'dataDir'>): string => join(dataDir, 'ingress');

/** What Caddy starts with. */
export const ingressConfigFile = (config: Pick<Config, 'dataDir'>): string =>
  join(ingressDirectory(config), 'caddy.json');

/** How Caddy calls a socket that the supervisor keeps for it. @param index among `ingressPortNeeds` (up/ports) */
const socketGiven = (index: number): string => `fd/${3 + index}`;

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
  return { directory, listen: socketGiven(0) };
};

/** With --dev, and where only this machine can be reached, everything stays on it. */
export const ingressHost = ({ dev, advertiseAddress }: Pick<Config, 'dev' | 'advertiseAddress'>): string =>
  dev || isLoopback(advertiseAddress) ? '127.0.0.1' : '';
