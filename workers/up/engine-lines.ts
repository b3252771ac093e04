/** What becomes of the lines that engines write. */

import type { Logger } from 'pino';

import { openJudgedLogWriter } from '../../adapters/ingress/judged-log';
import { createTroubles } from '../troubles';

/** @returns what logs one line of an engine, JSON or not, with the severity that the engine gives it */
export const engineLine = (logger: Logger, role: string) => (line: string) => {
  let level = 'info';
  let message = line;
  try {
    const parsed = JSON.parse(line) as Record<string, unknown>;
    const text = (...keys: readonly string[]) =>
      keys.map((key) => parsed[key]).find((value) => typeof value === 'string');
    level = text('level', '@level')?.toLowerCase() ?? level;
    message = text('msg', '@message') ?? line;
    const error = text('error');
    if (error !== undefined) message += `: ${error}`;
  } catch {
    // Not every line of an engine is JSON.
  }
  if (message.trim() === '') return;
  // Engines warn of much that heals by itself within a second; it is there for who looks.
  if (level === 'error' || level === 'fatal') logger.debug({ engine: role, level }, message);
  else logger.trace({ engine: role, level }, message);
};

/**
 * @param directory of the ingress
 * @returns what keeps one line of Caddy's output for the node worker, which counts requests by it
 */
export const judgedRequestLine = (logger: Logger, directory: string) => {
  const log = openJudgedLogWriter(directory);
  const troubles = createTroubles(logger);
  return (line: string): void => {
    try {
      log.write(line);
      troubles.over('judged', 'requests to releases under judgement can be counted again');
    } catch (error) {
      log.close();
      troubles.note('judged', error, 'requests to releases under judgement cannot be counted');
    }
  };
};
