/** Where the forwarder of a machine has its files, and how it is started. */

import { join } from 'node:path';

/** Beside this file, once it is built. */
export const FORWARDER_PROGRAM = join(__dirname, 'program.js');

/** @param directory of the ingress */
export const forwarderTableFile = (directory: string): string => join(directory, 'public-ports.json');

/** Where the node worker and the forwarder talk; nobody else on the machine reaches it. */
export const forwarderSocket = (directory: string): string => join(directory, 'forwarder.sock');
