/**
 * Looks at a hostname as an authority does: its addresses by DNS, and the answer to a challenge at each of them.
 *
 * Invariant: it says something is wrong only of what it has seen; a redirect is followed by an authority and may end
 * well, so it is left to that.
 */

import { Resolver } from 'node:dns/promises';
import { request } from 'node:http';
import { isIPv6 } from 'node:net';

import type { SelfCheck } from '../../contracts/acme';

import { networkWords } from './transport';

export interface SelfCheckOptions {
  /** Address and port of a DNS server; left out: those of the machine. */
  readonly resolver?: string;
  /** Where authorities look; another one only in tests. */
  readonly httpPort?: number;
}

const TIMEOUT_MS = 5_000;
const MAX_ADDRESSES = 6;
const MAX_BYTES = 2_000;

interface Seen {
  readonly status: number;
  readonly text: string;
}

const get = (address: string, port: number, hostname: string, path: string): Promise<Seen> =>
  new Promise((resolve, reject) => {
    const sent = request({
      host: address,
      port,
      path,
      headers: { host: port === 80 ? hostname : `${hostname}:${port}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      agent: false,
    });
    sent.on('error', (error) =>
      reject(
        error.name === 'AbortError' || error.name === 'TimeoutError'
          ? new Error(`it does not answer within ${TIMEOUT_MS / 1_000} s`)
          : error,
      ),
    );
    sent.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('error', reject);
      response.on('data', (part: string) => {
        text += part;
        if (text.length > MAX_BYTES) sent.destroy(new Error('it answers with something else'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.end();
  });

const NO_RECORD = ['ENOTFOUND', 'ENODATA'];

const addressesOf = async (resolver: Resolver, hostname: string): Promise<readonly string[]> => {
  const found = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
  const addresses = found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
  const [failure] = found.flatMap((one): unknown[] =>
    one.status === 'rejected' && !NO_RECORD.includes((one.reason as { readonly code: string }).code)
      ? [one.reason]
      : [],
  );
  if (addresses.length === 0 && failure !== undefined) {
    throw failure instanceof Error ? failure : new Error('DNS failed', { cause: failure });
  }
  return addresses;
};

const ADVICE = 'Have its A and AAAA records lead to nodes of this cluster, and to nothing else.';

export const createSelfCheck = ({ resolver: server, httpPort = 80 }: SelfCheckOptions = {}): SelfCheck => {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  if (server !== undefined) resolver.setServers([server]);

  const at = async (
    address: string,
    { hostname, token, keyAuthorization }: Parameters<SelfCheck>[0],
  ): Promise<string | undefined> => {
    const shown = isIPv6(address) ? `[${address}]` : address;
    try {
      const seen = await get(address, httpPort, hostname, `/.well-known/acme-challenge/${token}`);
      if (seen.status === 200 && seen.text.trim() === keyAuthorization) return undefined;
      if (seen.status >= 301 && seen.status <= 308) return undefined;
      return `${shown} is not of this cluster, or does not know the challenge (it answers ${seen.status})`;
    } catch (error) {
      return `${shown} does not answer on port ${httpPort}: ${networkWords(error)}`;
    }
  };

  return async (challenge) => {
    const { hostname } = challenge;
    let addresses: readonly string[];
    try {
      addresses = await addressesOf(resolver, hostname);
    } catch (error) {
      return `DNS does not tell where ${hostname} leads: ${networkWords(error)}. It is tried again.`;
    }
    if (addresses.length === 0) {
      return `${hostname} has no A or AAAA record in DNS. Give it some that lead to nodes of this cluster.`;
    }
    const problems = await Promise.all(addresses.slice(0, MAX_ADDRESSES).map((one) => at(one, challenge)));
    const wrong = problems.filter((one) => one !== undefined);
    return wrong.length === 0
      ? undefined
      : `${hostname} does not lead to this cluster on port ${httpPort} with all of its addresses: ${wrong.join('; ')}. ${ADVICE} Port 80 has to be reachable from the internet.`;
  };
};
