/** What a replica is told of its client before the client's bytes: the PROXY protocol of HAProxy. Pure. */

import type { ProxyProtocol } from './public-ports';

export interface Peers {
  readonly clientAddress: string;
  readonly clientPort: number;
  /** Where the client has connected to. */
  readonly ownAddress: string;
  readonly ownPort: number;
}

const MAPPED = /^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$/i;

/** An IPv4 address as such, also where a socket for both has it as one of IPv6. */
export const plainAddress = (address: string): string => MAPPED.exec(address)?.[1] ?? address;

const isV4 = (address: string): boolean => !address.includes(':');

const groupsOf = (part: string): readonly number[] =>
  part === '' ? [] : part.split(':').map((group) => parseInt(group, 16));

const bytesOf = (address: string): Uint8Array => {
  if (isV4(address)) return Uint8Array.from(address.split('.').map(Number));
  const [plain = ''] = address.split('%');
  const [head = '', tail] = plain.split('::');
  const [first, last] = [groupsOf(head), groupsOf(tail ?? '')];
  const zeros = Array<number>(8 - first.length - last.length).fill(0);
  return Uint8Array.from([...first, ...zeros, ...last].flatMap((group) => [group >> 8, group & 255]));
};

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/** Version 2, a connection on behalf of somebody. */
const PROXIED = 0x21;
const OVER_TCP4 = 0x11;
const OVER_TCP6 = 0x21;

const portBytes = (port: number): readonly number[] => [port >> 8, port & 255];

/** @returns the bytes that go before those of the client */
export const proxyHeader = (version: ProxyProtocol, peers: Peers): Uint8Array => {
  const [client, own] = [plainAddress(peers.clientAddress), plainAddress(peers.ownAddress)];
  if (version === 'v1') {
    const family = isV4(client) ? 'TCP4' : 'TCP6';
    return new TextEncoder().encode(
      `PROXY ${family} ${client} ${own} ${peers.clientPort} ${peers.ownPort}\r\n`,
    );
  }
  const addresses = [...bytesOf(client), ...bytesOf(own)];
  const body = [...addresses, ...portBytes(peers.clientPort), ...portBytes(peers.ownPort)];
  return Uint8Array.from([
    ...SIGNATURE,
    PROXIED,
    isV4(client) ? OVER_TCP4 : OVER_TCP6,
    ...portBytes(body.length),
    ...body,
  ]);
};
