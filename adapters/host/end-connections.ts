/**
 * Ends TCP connections of this machine, whichever of its processes has them, as if the other end had broken them off. The
 * kernel does that for root (SOCK_DESTROY), and `ss` of iproute2 asks it to.
 */

import { execFile } from 'node:child_process';
import { isIP } from 'node:net';
import { promisify } from 'node:util';

import { hostPort } from '../../domain/host-port';

const TIMEOUT_MS = 10_000;
/** Of one call: what a command line holds, and the kernel looks through, without trouble. */
const MAX_ENDPOINTS = 100;

export interface RemoteEndpoint {
  readonly address: string;
  readonly port: number;
}

const execute = promisify(execFile);

const endSome = async (endpoints: readonly RemoteEndpoint[]): Promise<void> => {
  const filter = endpoints.map(({ address, port }) => `dst ${hostPort(address, port)}`).join(' or ');
  const args = ['--kill', '--tcp', '--numeric', '--no-header', filter];
  const { stderr } = await execute('ss', args, { timeout: TIMEOUT_MS });
  // It ends well whatever the kernel says.
  if (stderr !== '') throw new Error(stderr.trim());
};

/**
 * @param endpoints at the other end
 * @throws {Error} when this process may not do it, the kernel cannot, or there is no `ss`
 */
export const endConnections = async (endpoints: readonly RemoteEndpoint[]): Promise<void> => {
  const known = endpoints.filter(({ address, port }) => isIP(address) > 0 && port > 0);
  for (let first = 0; first < known.length; first += MAX_ENDPOINTS) {
    await endSome(known.slice(first, first + MAX_ENDPOINTS));
  }
};
