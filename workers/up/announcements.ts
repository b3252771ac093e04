/** What `containeros up` says when everything runs. Pure. */

import type { Config } from '../config';
import type { Installation } from '../installation';
import { nodeNameInWords } from '../node-name';

import { commandHere, isStartedByNpm, joinCommandAsHere, type Start } from './command-here';
import type { IngressPorts } from './supervise';

/** @param took how long that was, in words */
export const readyText = (
  config: Config,
  installation: Pick<Installation, 'passwordFile' | 'passwordIsNew'>,
  took: string,
  ports: IngressPorts | undefined,
  start: Start,
): string =>
  [
    '',
    `ContainerOS is ready (${took}).`,
    '',
    `  API              http://${config.apiHost}:${config.apiPort}`,
    ...(ports === undefined
      ? []
      : [
          `  Hostnames        http://NAME.localhost${ports.http === 80 ? '' : `:${ports.http}`}, as "httpPorts" of your microservices say`,
          `                   https://NAME.localhost${ports.https === 443 ? '' : `:${ports.https}`}, without a warning once this was run:`,
          `                   ${commandHere(['trust'], config, start, true)}`,
        ]),
    ...(config.temporalAddress === undefined
      ? [`  Temporal Web UI  http://127.0.0.1:${config.temporalUiPort}`]
      : [`  Temporal         ${config.temporalAddress}`]),
    config.dev
      ? '  Password         dev'
      : config.password === undefined
        ? `  Password         in ${installation.passwordFile}${installation.passwordIsNew ? ' (made just now)' : ''}`
        : '  Password         as given',
    ...(config.namedAfterHost === undefined ? [] : [`  Node             ${nodeNameInWords(config)}`]),
    `  Data             ${config.dataDir}`,
    '',
    'Ctrl-C stops ContainerOS and leaves your containers running.',
    '',
    '',
  ].join('\n');

/**
 * How another machine joins.
 *
 * @param command as the API gives it
 * @param another the command that makes another one
 */
export const joinText = (command: string, another: string, start: Start): string =>
  [
    `Another machine becomes a node by this command${isStartedByNpm(start) ? ' in its clone of ContainerOS' : ''}, within an hour:`,
    '',
    `  ${joinCommandAsHere(command, start)}`,
    '',
    `For more machines: ${another}`,
    '',
    '',
  ].join('\n');
