/** The help, generated from the commands. Pure. */

import { ACCESS_FLAGS } from './access';
import type { Command, Flag } from './command';

/** What is listed beside the commands of this folder. */
export interface ListedCommand {
  readonly name: string;
  /** What follows the name in the list. */
  readonly usage?: string;
  readonly summary: string;
}

const INDENT = '  ';
const COLUMN = 43;
const FLAG_COLUMN = 26;

export const COMMON_FLAGS: readonly Flag[] = [
  { name: 'json', help: "Print the API's answer as it is." },
  ...ACCESS_FLAGS,
];

const optionalIn = ({ optionalArguments = [] }: Command): readonly string[] =>
  optionalArguments.map((one) => `[${one}]`);

const usageOf = (command: Command): string =>
  [
    command.name,
    ...command.arguments,
    ...optionalIn(command),
    ...command.flags.map(({ name: flag, value }) => `[--${flag}${value === undefined ? '' : ` ${value}`}]`),
    ...(command.rest === undefined ? [] : [`[-- ${command.rest}]`]),
  ].join(' ');

/** Without the flags, which the command's own help tells. */
const shortUsageOf = (command: Command): string =>
  [command.name, ...command.arguments, ...optionalIn(command)].join(' ');

const listed = (usage: string, summary: string): string => {
  const words = `${INDENT}containeros ${usage}`;
  // A long one has a line of its own.
  return words.length < COLUMN
    ? `${words.padEnd(COLUMN)}${summary}`
    : `${words}\n${' '.repeat(COLUMN)}${summary}`;
};

const flagLine = ({ name, short, value, help, variable }: Flag): string => {
  const left = `${INDENT}${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`;
  const lines = [`${left.padEnd(FLAG_COLUMN)}${help}`];
  if (variable !== undefined) lines.push(`${' '.repeat(FLAG_COLUMN)}${variable}`);
  return lines.join('\n');
};

/** The text of `containeros --help`. */
export const overview = (commands: readonly Command[], others: readonly ListedCommand[]): string =>
  [
    'containeros: a container management system for developers',
    '',
    ...others.map(({ name, usage = '', summary }) => listed(`${name} ${usage}`.trim(), summary)),
    '',
    ...commands.map((command) => listed(shortUsageOf(command), command.summary)),
    '',
    listed('COMMAND --help', 'Say what a command does, and its flags.'),
    listed('--version', 'Say the version.'),
    '',
  ].join('\n');

/** The text of `containeros COMMAND --help`. */
export const commandHelp = (command: Command): string =>
  [
    `containeros ${usageOf(command)}`,
    '',
    command.summary,
    ...(command.details ?? []),
    '',
    ...[...command.flags, ...COMMON_FLAGS].map(flagLine),
    '',
  ].join('\n');

/** The help of commands that begin with the same word. */
export const groupHelp = (commands: readonly Command[]): string =>
  [...commands.map((command) => listed(shortUsageOf(command), command.summary)), ''].join('\n');
