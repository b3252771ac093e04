/** How many TCP connections a machine has accepted, as the kernel counts them: on all its ports together. */

import { readFileSync } from 'node:fs';

import { counterIn } from './snmp';

/** @returns a number that grows with each connection; undefined where the kernel does not tell */
export const acceptedConnections = (): number | undefined => {
  try {
    return counterIn(readFileSync('/proc/self/net/snmp', 'utf8'), 'Tcp', 'PassiveOpens');
  } catch {
    return undefined;
  }
};
