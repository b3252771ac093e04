/**
 * Runs one command line: finds the command, parses its arguments, calls the API, and prints the outcome.
 *
 * Invariants: what people asked for goes to standard output, and all else to standard error; everything that is wrong
 * with a command line is told before the API is called.
 */

import { parseArgs } from 'node:util';

import { findAccess } from './access';
import { createApiClient } from './api-client';
import { CommandError, type Command, type Invocation } from './command';
import { COMMANDS } from './commands';
import { COMMON_FLAGS, commandHelp, groupHelp, overview, type ListedCommand } from './help';
import type { Terminal } from './terminal';
import { count, listInWords, manyLines } from './words';

export { CommandError } from './command';

export interface Surroundings {
  /** Usually process.env. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where ContainerOS keeps its data on this machine when nobody says otherwise. */
  readonly defaultDataDir: string;
  /** Finds what was meant by a mistyped word. */
  readonly suggest: (word: string, candidates: readonly string[]) => string | undefined;
  /** Commands that are run elsewhere, for the help and for suggestions. */
  readonly otherCommands: readonly ListedCommand[];
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  readonly nowMs: () => number;
  /** What commands use that talk to people themselves. */
  readonly terminal: () => Terminal;
  /** Other commands, for tests. */
  readonly commands?: readonly Command[];
}

interface Parsed {
  readonly flags: ReadonlyMap<string, readonly (string | true)[]>;
  readonly positionals: readonly string[];
  /** Words after `--`. */
  readonly rest: readonly string[];
}

const invalid = (message: string): CommandError => new CommandError('invalid', message);

const isHelp = (word: string) => word === '--help' || word === '-h';

const meant = (suggestion: string | undefined): string =>
  suggestion === undefined ? '' : ` Did you mean ${suggestion}?`;

/** @throws {CommandError} `invalid`, with everything that is wrong with the flags */
const parseFlags = (command: Command, args: readonly string[], { suggest }: Surroundings): Parsed => {
  const known = new Map([...command.flags, ...COMMON_FLAGS].map((flag) => [flag.name, flag]));
  const end = command.rest === undefined ? -1 : args.indexOf('--');
  const [own, rest] = end === -1 ? [args, []] : [args.slice(0, end), args.slice(end + 1)];
  const { tokens, positionals } = parseArgs({
    args: [...own],
    options: Object.fromEntries(
      [...known.values()].map(({ name, short, value }) => [
        name,
        {
          type: value === undefined ? ('boolean' as const) : ('string' as const),
          ...(short === undefined ? {} : { short }),
        },
      ]),
    ),
    // What is wrong is said here, in the words of the help.
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  if (end === -1 && command.rest !== undefined && positionals.length > command.arguments.length) {
    const [name = '', ...words] = args;
    throw invalid(
      `What is to be run comes after --: containeros ${command.name} ${name} -- ${words.join(' ')}. See containeros ${command.name} --help.`,
    );
  }
  const flags = new Map<string, (string | true)[]>();
  const problems: string[] = [];
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const { name, rawName, value, inlineValue } = token;
    const flag = known.get(name);
    if (flag === undefined || (!rawName.startsWith('--') && flag.short !== rawName.slice(1))) {
      const suggestion = suggest(name, [...known.keys()]);
      problems.push(`There is no flag ${rawName}.${meant(suggestion && `--${suggestion}`)}`);
    } else if (flags.has(name) && flag.isList !== true) problems.push(`${rawName} is given twice.`);
    else if (flag.value === undefined) {
      if (value !== undefined) problems.push(`${rawName} takes no value.`);
      flags.set(name, [true]);
    } else if (value === undefined || value === '' || (inlineValue !== true && value.startsWith('-'))) {
      problems.push(`${rawName} needs a value: ${rawName} ${flag.value}.`);
    } else flags.set(name, [...(flags.get(name) ?? []), value]);
  }
  if (problems.length > 0) throw invalid(`${problems.join(' ')} See containeros ${command.name} --help.`);
  return { flags, positionals, rest };
};

/** @throws {CommandError} `invalid` */
const nameArguments = (
  { name: command, arguments: needed, optionalArguments = [] }: Command,
  positionals: readonly string[],
): ReadonlyMap<string, string> => {
  const seeHelp = `See containeros ${command} --help.`;
  const missing = needed.slice(positionals.length);
  const names = [...needed, ...optionalArguments];
  if (missing.length > 0) throw invalid(`containeros ${command} needs ${listInWords(missing)}. ${seeHelp}`);
  if (positionals.length > names.length) {
    const [surplus = ''] = positionals.slice(names.length);
    const takes = names.length === 0 ? 'no arguments' : count(names.length, 'argument');
    throw invalid(`containeros ${command} takes ${takes}, and "${surplus}" is one more. ${seeHelp}`);
  }
  return new Map(names.slice(0, positionals.length).map((name, index) => [name, positionals[index] ?? '']));
};

interface Found {
  readonly command: Command;
  readonly rest: readonly string[];
}

/** @throws {CommandError} `invalid`, with what was probably meant */
const findCommand = (argv: readonly string[], surroundings: Surroundings): Found | readonly Command[] => {
  const { suggest, otherCommands, commands = COMMANDS } = surroundings;
  const [first = '', second] = argv;
  const one = commands.find(({ name }) => name === first);
  if (one !== undefined) return { command: one, rest: argv.slice(1) };
  const group = commands.filter(({ name }) => name.startsWith(`${first} `));
  if (group.length === 0) {
    if (first.startsWith('-')) {
      throw invalid(`The command comes before its flags, and ${first} is none. See containeros --help.`);
    }
    const words = [...otherCommands, ...commands].map(({ name }) => name.split(' ')[0] ?? name);
    throw invalid(`There is no command "${first}".${meant(suggest(first, words))} See containeros --help.`);
  }
  if (second === undefined || isHelp(second)) return group;
  const two = group.find(({ name }) => name === `${first} ${second}`);
  if (two !== undefined) return { command: two, rest: argv.slice(2) };
  const words = group.map(({ name }) => name.slice(first.length + 1));
  throw invalid(
    `There is no command "${first} ${second}".${meant(suggest(second, words))} It is one of ${listInWords(words)}.`,
  );
};

const runCommand = async (
  command: Command,
  rest: readonly string[],
  surroundings: Surroundings,
): Promise<number> => {
  const { environment, defaultDataDir, write, writeError, nowMs, terminal } = surroundings;
  const { flags, positionals, rest: words } = parseFlags(command, rest, surroundings);
  const named = nameArguments(command, positionals);
  const flag = (name: string): string | undefined => {
    const value = flags.get(name)?.[0];
    return value === true ? undefined : value;
  };
  const api = createApiClient(() => findAccess({ flag, environment, defaultDataDir }));
  const asJson = flags.has('json');
  const print = (text: string) => write(`${manyLines(text)}\n`);
  const warn = (line: string) => writeError(`containeros: ${manyLines(line)}\n`);
  const invocation: Invocation = {
    api,
    argument: (name) => {
      const value = named.get(name);
      if (value === undefined) throw new Error(`${command.name} takes no argument ${name}`);
      return value;
    },
    optional: (name) => named.get(name),
    flag,
    isSet: (name) => flags.has(name),
    list: (name) => (flags.get(name) ?? []).filter((value) => value !== true),
    rest: words,
    asJson,
    terminal,
    tell: asJson ? () => undefined : print,
    note: asJson ? () => undefined : (line) => writeError(`${manyLines(line)}\n`),
    warn,
    nowMs,
  };
  const outcome = await command.run(invocation);
  if (!('answer' in outcome)) return outcome.exitCode;
  const { answer } = outcome;
  if (answer.staleSince !== undefined) {
    warn(`Consul has not answered since ${answer.staleSince}, so this is what was known then.`);
  }
  if (!asJson) print(await outcome.words());
  else if (answer.text !== '') write(answer.text.endsWith('\n') ? answer.text : `${answer.text}\n`);
  return outcome.exitCode ?? 0;
};

/**
 * Runs the command, or prints the help that it asks for.
 *
 * @param argv words after `containeros`
 * @returns the exit code; failures are thrown
 * @throws {CommandError} what people can mend; its code is a row of the error table, which has the exit code
 */
export const runCommandLine = async (
  argv: readonly string[],
  surroundings: Surroundings,
): Promise<number> => {
  const { write, otherCommands, commands = COMMANDS } = surroundings;
  const [first] = argv;
  if (first === undefined || isHelp(first) || (first === 'help' && argv.length === 1)) {
    write(overview(commands, otherCommands));
    return first === undefined ? 2 : 0;
  }
  const words = first === 'help' ? argv.slice(1) : argv;
  const found = findCommand(words, surroundings);
  if (!('command' in found)) {
    write(groupHelp(found));
    return first === 'help' || words.some(isHelp) ? 0 : 2;
  }
  const { command, rest } = found;
  const end = command.rest === undefined ? -1 : rest.indexOf('--');
  const own = end === -1 ? rest : rest.slice(0, end);
  if (first !== 'help' && !own.some(isHelp)) return runCommand(command, rest, surroundings);
  write(commandHelp(command));
  return 0;
};
