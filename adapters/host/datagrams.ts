/** How many UDP datagrams a network namespace has taken in and sent, as the kernel counts them: of all its ports together. */

import { readFile } from 'node:fs/promises';

import { counterIn } from './snmp';

/** @param table as /proc/net/snmp */
export const datagramsIn = (table: string): number =>
  ['InDatagrams', 'OutDatagrams'].reduce((sum, name) => sum + (counterIn(table, 'Udp', name) ?? 0), 0);

/** @param table as /proc/net/snmp6: a line for each name and number */
export const datagramsIn6 = (table: string): number =>
  [...table.matchAll(/^Udp6(?:In|Out)Datagrams\s+(\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );

/**
 * @param pid a process in the namespace
 * @returns a number that grows with each datagram; undefined when the process is gone, or cannot be seen
 */
export const countDatagrams = async (pid: number): Promise<number | undefined> => {
  try {
    const [table, table6] = await Promise.all([
      readFile(`/proc/${pid}/net/snmp`, 'utf8'),
      // A machine without IPv6 has no such table.
      readFile(`/proc/${pid}/net/snmp6`, 'utf8').catch(() => ''),
    ]);
    return datagramsIn(table) + datagramsIn6(table6);
  } catch {
    return undefined;
  }
};
