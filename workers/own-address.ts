/**
 * Under which address other machines reach this one, when nobody says so.
 *
 * Invariant: only an address of a private network is taken by itself: on a public one, whatever listens could be
 * reached by everybody, and that has to be asked for.
 */

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { BlockList, isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** RFC 1918, and the shared space of RFC 6598 that overlay networks like to use. */
const PRIVATE = new BlockList();
PRIVATE.addSubnet('10.0.0.0', 8);
PRIVATE.addSubnet('172.16.0.0', 12);
PRIVATE.addSubnet('192.168.0.0', 16);
PRIVATE.addSubnet('100.64.0.0', 10);

export const isPrivateAddress = (address: string): boolean =>
  isIPv4(address) && PRIVATE.check(address, 'ipv4');

const UP_GATEWAY = 0x3;

/**
 * @param table the text of /proc/net/route: a line for each route, with numbers in hexadecimal (proc(5))
 * @returns the interface of the default route that is preferred, if there is one
 */
export const defaultRouteInterface = (table: string): string | undefined => {
  const routes = table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, destination, , flags, , , , mask]) => {
      const isUp = (parseInt(flags ?? '0', 16) & UP_GATEWAY) === UP_GATEWAY;
      return destination === '00000000' && mask === '00000000' && isUp;
    })
    .sort((a, b) => Number(a[6]) - Number(b[6]));
  return routes[0]?.[0];
};

/** The address of this machine on the private network that it reaches others by; undefined when there is none. */
export const ownPrivateAddress = (): string | undefined => {
  let table: string;
  try {
    table = readFileSync('/proc/net/route', 'utf8');
  } catch {
    return undefined; // no network, or not Linux
  }
  const name = defaultRouteInterface(table);
  const addresses = name === undefined ? [] : (networkInterfaces()[name] ?? []);
  return addresses.map(({ address }) => address).find(isPrivateAddress);
};

/**
 * The address of this machine from which it reaches another one. Nothing is sent.
 *
 * @param host name or address of the other machine
 * @throws when there is no way to it
 */
export const addressTowards = (host: string, port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    // The callback is given an error, whatever its type says.
    socket.connect(port, host, (error?: Error) => {
      if (error !== undefined && error !== null) reject(error);
      else resolve(socket.address().address);
      socket.close();
    });
  });
