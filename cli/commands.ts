/**
 * All commands that are clients of the HTTP API, in the order of the help.
 *
 * Invariant: no two have the same name, and none has that of what the server side runs itself (`up`, `join`, `leave`).
 */

import { CERTIFICATE_COMMANDS } from './certificates';
import type { Command } from './command';
import { drainCommand } from './drain';
import { EXEC_COMMAND } from './exec';
import { JOIN_TOKEN_COMMANDS } from './join-tokens';
import { MAINTENANCE_COMMANDS } from './maintenance';
import { NODE_COMMANDS, REMOVE_COMMAND } from './nodes';
import { STEERING_COMMANDS } from './release-commands';
import { RELEASE_COMMANDS } from './releases';
import { trustCommand } from './trust';
import { WEBHOOK_COMMANDS } from './webhooks';

export const COMMANDS: readonly Command[] = [
  ...RELEASE_COMMANDS,
  ...STEERING_COMMANDS,
  EXEC_COMMAND,
  ...WEBHOOK_COMMANDS,
  ...NODE_COMMANDS,
  drainCommand(),
  REMOVE_COMMAND,
  ...MAINTENANCE_COMMANDS,
  ...JOIN_TOKEN_COMMANDS,
  ...CERTIFICATE_COMMANDS,
  trustCommand(),
];
