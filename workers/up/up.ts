/** `containeros up`: everything on one machine, which others may join, supervised in the foreground. */

import type { Logger } from 'pino';

import { issueServerCertificate, openHeadAuthority, writeServerCertificate } from '../cluster/head-files';
import { isJoinable, type Config } from '../config';
import { openInstallation, type Installation } from '../installation';
import { localApiUrl } from '../local-api';

import { joinText, readyText } from './announcements';
import { commandHere, type Start } from './command-here';
import { consulCommand, temporalCommand } from './engines';
import { portNeeds } from './ports';
import { ROLES, supervise } from './supervise';

/** Says how another machine joins: with a token for one machine, good for an hour. */
const announceJoin = async (
  config: Config,
  { password }: Installation,
  start: Start,
  logger: Logger,
): Promise<void> => {
  const another = commandHere(['join-token', 'create'], config, start);
  try {
    const response = await fetch(`${localApiUrl(config)}/v1/join-tokens`, {
      method: 'POST',
      headers: { authorization: `Bearer ${password}`, 'content-type': 'application/json' },
      body: '{}',
    });
    if (!response.ok) throw new Error(`the API answered ${response.status}: ${await response.text()}`);
    const { command } = (await response.json()) as { readonly command: string };
    process.stdout.write(joinText(command, another, start));
  } catch (error) {
    logger.warn({ err: error }, `no join token could be made; make one with: ${another}`);
  }
};

/**
 * Runs until SIGINT or SIGTERM.
 *
 * @param argv flags as given, passed on to the roles
 * @param entry file that starts a role by its name
 * @returns the exit code
 */
export const up = async (
  config: Config,
  argv: readonly string[],
  entry: string,
  logger: Logger,
): Promise<number> => {
  const installation = openInstallation(config);
  const start: Start = {
    script: process.argv[1] ?? entry,
    entry,
    node: process.execPath,
    isRoot: process.getuid?.() === 0,
  };
  return supervise({
    config,
    argv,
    entry,
    logger,
    roles: ROLES,
    ports: portNeeds(config),
    prepare: async () => {
      if (!isJoinable(config)) return;
      const { clusterId } = installation;
      const authority = await openHeadAuthority(config, clusterId);
      writeServerCertificate(config, await issueServerCertificate(config, clusterId, authority));
    },
    engines: () => ({
      ...(config.consulAddress === undefined ? { consul: consulCommand(config) } : {}),
      ...(config.temporalAddress === undefined ? { temporal: temporalCommand(config) } : {}),
    }),
    onReady: (took, ports) => {
      process.stdout.write(readyText(config, installation, took, ports, start));
      if (isJoinable(config)) void announceJoin(config, installation, start, logger);
    },
  });
};
