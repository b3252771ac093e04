/** Structured logs: JSON lines from every process; readable ones on a terminal. */

import { pino, type Logger } from 'pino';
import pretty from 'pino-pretty';

import type { Config } from './config';

export const createLogger = (config: Pick<Config, 'logLevel' | 'logFormat'>, role: string): Logger => {
  const options = {
    level: config.logLevel,
    base: { role },
    // Temporal's SDK calls them so.
    serializers: { error: pino.stdSerializers.err },
    redact: ['password', '*.password', 'token', '*.token'],
  };
  return config.logFormat === 'json'
    ? pino(options)
    : pino(
        options,
        pretty({
          sync: true,
          ignore: 'pid,hostname,role',
          messageFormat: '{role}: {msg}',
          translateTime: 'SYS:HH:MM:ss.l',
        }),
      );
};
