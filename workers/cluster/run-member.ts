/** Runs this machine as a node of the cluster that it has joined: a Consul agent and the node worker, supervised. */

import type { Logger } from 'pino';

import { ContainerOsError } from '../../domain/errors';
import { isLoopback, type Config } from '../config';
import { openRunDirectory } from '../installation';
import { nodeNameInWords } from '../node-name';
import { consulMemberCommand } from '../up/engines';
import { consulPortNeeds } from '../up/ports';
import { supervise } from '../up/supervise';

import { assertCredentials, type Membership } from './membership';

/** @throws {ContainerOsError} `invalid` for a machine that others cannot reach */
export const assertReachable = ({ dev, advertiseAddress }: Config): void => {
  if (!dev && !isLoopback(advertiseAddress)) return;
  throw new ContainerOsError(
    'invalid',
    'A node is reached by other machines, so it can neither have --dev nor an address of the loopback interface. Give its own address with --advertise-address.',
  );
};

/**
 * Runs until SIGINT or SIGTERM.
 *
 * @param argv flags as given, passed on to the roles
 * @param entry file that starts a role by its name
 * @returns the exit code
 * @throws {ContainerOsError} `invalid` for an address that others cannot reach, or without a usable certificate
 */
export const runMember = async (
  given: Config,
  membership: Membership,
  argv: readonly string[],
  entry: string,
  logger: Logger,
): Promise<number> => {
  assertReachable(given);
  assertCredentials(given, membership);
  // The name is in the certificate.
  const config: Config = { ...given, nodeId: membership.nodeId };
  openRunDirectory(config);
  return supervise({
    config,
    argv,
    entry,
    logger,
    roles: ['node'],
    ports: consulPortNeeds(config, 'client'),
    engines: () => ({ consul: consulMemberCommand(config, membership) }),
    onReady: (took) =>
      process.stdout.write(
        [
          '',
          `This machine is node ${membership.nodeId} of the cluster at ${membership.clusterAddress} (${took}).`,
          '',
          ...(membership.nodeId === given.nodeId && given.namedAfterHost !== undefined
            ? [`  Name     ${nodeNameInWords(given)}`]
            : []),
          `  Address  ${config.advertiseAddress}`,
          `  Data     ${config.dataDir}`,
          '',
          'Ctrl-C stops ContainerOS and leaves your containers running; the cluster then starts replacements elsewhere.',
          'containeros leave takes the machine out of the cluster for good.',
          '',
          '',
        ].join('\n'),
      ),
  });
};
