/** How many connections others have open to ports in a network namespace, as the kernel tells. */

import { readFile } from 'node:fs/promises';

/** `ESTABLISHED` in /proc/net/tcp (proc(5), include/net/tcp_states.h). */
const ESTABLISHED = '01';
/** 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104, as the kernel writes them on a little-endian machine. */
const LOOPBACK = /^(?:[0-9A-F]{6}7F|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F)$/;

/** @param table as /proc/net/tcp or /proc/net/tcp6 */
export const countEstablished = (table: string, ports: ReadonlySet<number>): number =>
  table
    .split('\n')
    .slice(1)
    .filter((line) => {
      const [, local = '', remote = '', state] = line.trim().split(/\s+/);
      if (state !== ESTABLISHED) return false;
      const [remoteAddress = ''] = remote.split(':');
      return ports.has(parseInt(local.split(':')[1] ?? '', 16)) && !LOOPBACK.test(remoteAddress);
    }).length;

/**
 * @param pid a process in the namespace
 * @param ports that are listened on there
 * @returns connections from elsewhere than the namespace itself; undefined when the process is gone, or cannot be seen
 */
export const countOpenConnections = async (
  pid: number,
  ports: ReadonlySet<number>,
): Promise<number | undefined> => {
  try {
    const tables = await Promise.all(
      ['tcp', 'tcp6'].map((name) =>
        readFile(`/proc/${pid}/net/${name}`, 'utf8').catch((error: NodeJS.ErrnoException) => {
          // A machine without IPv6 has no such table.
          if (name === 'tcp6' && error.code === 'ENOENT') return '';
          throw error;
        }),
      ),
    );
    return tables.reduce((sum, table) => sum + countEstablished(table, ports), 0);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return undefined;
    throw error;
  }
};
