/**
 * `exec`: runs a command in a container of a microservice.
 *
 * Invariants: which replica was chosen is said; the exit code is that of the command, and what the command writes is
 * written as it is.
 */

import { text as readText } from 'node:stream/consumers';

import type { ExecResultView, ExecStart } from '../openapi/exec-schemas';
import type { ReplicaView } from '../openapi/schemas';

import { segment, type ApiClient } from './api-client';
import { attach } from './attached';
import { CommandError, type Command, type Invocation } from './command';
import { listInWords } from './words';

const SHELL = '/bin/sh';
/** The longest that the API lets a command take that it answers whole. */
const LONGEST_SECONDS = 600;

const stateInWords = ({ id, state, reason }: ReplicaView): string =>
  `${id} is ${state.replaceAll('_', '-')}${reason === undefined ? '' : ` (${reason})`}`;

/** One that serves; otherwise one that has something that runs, as that may be what somebody wants to look into. */
const choose = (name: string, replicas: readonly ReplicaView[]): ReplicaView => {
  const found =
    replicas.find(({ state }) => state === 'running') ??
    replicas.find(({ state, containers }) => state !== 'lost' && containers.some(({ running }) => running));
  if (found !== undefined) return found;
  const why = replicas.length === 0 ? 'it has none' : listInWords(replicas.slice(0, 5).map(stateInWords));
  throw new CommandError(
    'conflict',
    `No replica of ${name} runs, so nothing can be run in one: ${why}. Scale it up, or mend what keeps it from running.`,
  );
};

const findReplica = async (api: ApiClient, name: string, id: string | undefined): Promise<ReplicaView> => {
  const { value } = await api.list<ReplicaView>(`/v1/microservices/${segment(name)}/replicas`);
  if (id === undefined) return choose(name, value.items);
  const found = value.items.find((replica) => replica.id === id);
  if (found !== undefined) return found;
  const ids = value.items.map((replica) => replica.id);
  throw new CommandError(
    'not_found',
    `${name} has no replica ${id}; it has ${ids.length === 0 ? 'none' : listInWords(ids.slice(0, 20))}.`,
  );
};

const parseEnvironment = (pairs: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new CommandError('invalid', `--env takes KEY=VALUE, not "${pair}".`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );

type Wanted = Pick<ExecStart, 'command' | 'container' | 'env' | 'user' | 'workingDirectory'>;

const wantedOf = ({ rest, flag, list }: Invocation): Wanted => {
  const [program = SHELL, ...parameters] = rest;
  const given = (key: 'container' | 'user' | 'workingDirectory', value: string | undefined) =>
    value === undefined ? {} : { [key]: value };
  const env = parseEnvironment(list('env'));
  return {
    command: [program, ...parameters],
    ...given('container', flag('container')),
    ...given('user', flag('user')),
    ...given('workingDirectory', flag('workdir')),
    ...(Object.keys(env).length === 0 ? {} : { env }),
  };
};

/** The shell that is run when nothing else is said reads from here, and has a terminal when there is one. */
const modeOf = ({
  rest,
  isSet,
  terminal,
}: Invocation): { readonly stdin: boolean; readonly tty: boolean } => {
  const { input, output } = terminal();
  const isTerminal = input.isTTY === true && output.isTTY === true;
  if (rest.length === 0 && !isSet('tty')) return { stdin: true, tty: isTerminal };
  const mode = { stdin: isSet('stdin') || rest.length === 0, tty: isSet('tty') };
  if (mode.tty && mode.stdin && input.isTTY !== true) {
    throw new CommandError(
      'invalid',
      'A terminal was asked for (-t), and standard input is none. Leave out -t to pipe something in.',
    );
  }
  return mode;
};

export const EXEC_COMMAND: Command = {
  name: 'exec',
  arguments: ['NAME'],
  flags: [
    { name: 'replica', value: 'ID', help: 'In this replica; otherwise in one that runs.' },
    { name: 'container', value: 'NAME', help: 'In this container, when a replica has several.' },
    { name: 'stdin', short: 'i', help: 'The command reads what comes on standard input.' },
    { name: 'tty', short: 't', help: 'The command has a terminal.' },
    { name: 'user', value: 'USER', help: "As this user; otherwise as the container's." },
    { name: 'workdir', value: 'DIR', help: "In this directory; otherwise in the container's." },
    { name: 'env', value: 'KEY=VALUE', isList: true, help: 'With this variable, too; may be repeated.' },
  ],
  rest: 'COMMAND ARG...',
  summary: 'Run a command in a container of a microservice; a shell by default.',
  details: [
    'The exit code is that of the command. Without a command a shell is started, with a terminal when there is one.',
    'The command ends when this one is ended. With --json, its output is printed when it has ended.',
  ],
  run: async (invocation) => {
    const { api, argument, flag, asJson, isSet, warn, terminal } = invocation;
    const wanted = wantedOf(invocation);
    const mode = asJson ? undefined : modeOf(invocation);
    if (asJson && isSet('tty')) {
      throw new CommandError('invalid', 'With --json there is no terminal: leave out one of --json and -t.');
    }
    const replica = await findReplica(api, argument('NAME'), flag('replica'));
    if (!isSet('replica')) warn(`This runs in replica ${replica.id} on node ${replica.node}.`);
    const path = `/v1/replicas/${segment(replica.id)}/exec`;
    if (mode === undefined) {
      const stdin = isSet('stdin') ? { stdin: await readText(terminal().input) } : {};
      const answer = await api.call<ExecResultView>('POST', path, {
        body: { ...wanted, ...stdin, timeoutSeconds: LONGEST_SECONDS },
        waitMs: LONGEST_SECONDS * 1_000,
      });
      return { answer, words: () => '', exitCode: answer.value.exitCode };
    }
    return { exitCode: await attach(terminal(), await api.open(path), { ...wanted, ...mode }) };
  },
};
