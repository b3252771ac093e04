import { hostPort } from '../domain/host-port';

import type { Config } from './config';

/** The API as this machine reaches it, whatever address it listens on. */
export const localApiUrl = ({ apiHost, apiPort }: Pick<Config, 'apiHost' | 'apiPort'>): string => {
  const host = apiHost === '0.0.0.0' || apiHost === '::' ? '127.0.0.1' : apiHost;
  return `http://${hostPort(host, apiPort)}`;
};
