/** Structured logs: JSON lines from every process; readable ones on a terminal. */

import { pino, type Logger } from 'pino';

import type { Config } from './config';

export const createLogger = async (
  config: Pick<Config, 'logLevel' | 'logFormat'>,
  role: string,
): Promise<Logger> => {
  const options = {
    level: config.logLevel,
    base: { role },
    // Temporal's SDK calls them so.
    serializers: { error: pino.stdSerializers.err },
    redact: ['password', '*.password', 'token', '*.token'],
  };
  if (config.logFormat === 'json') return pino(options);
  const { default: pretty } = await import('pino-pretty');
  return pino(
    options,
    pretty({
      sync: true,
      ignore: 'pid,hostname,role',
      messageFormat: '{role}: {msg}',
      translateTime: 'SYS:HH:MM:ss.l',
    }),
  );
};
