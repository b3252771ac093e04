// What a person can do to a running test cluster, as words on a line.
// Invariant: every command has a line in the help, and a mistake is answered with the way it is written.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeView } from '../../../openapi/schemas';
import { read } from '../product';
import { ALL_ROLES, type Role } from '../product-process';
import type { Cluster } from './cluster';
import { assertClusterConverged } from './cluster-checker';
import type { ClusterNode } from './cluster-node';

/** What the person did wrong: its text is the answer. */
export class CommandError extends Error {}

interface Command {
  readonly usage: string;
  readonly help: string;
  readonly run: (cluster: Cluster, args: readonly string[]) => Promise<string>;
}

/** A process of a node by the word for it: a role of ContainerOS, or its Docker Engine. */
type Target = Role | 'docker';
const TARGETS: readonly Target[] = [...ALL_ROLES, 'docker'];

const nodeOf = (cluster: Cluster, name: string | undefined): ClusterNode => {
  if (name === undefined) throw new CommandError('Which node?');
  try {
    return cluster.node(name);
  } catch (error) {
    throw new CommandError((error as Error).message, { cause: error });
  }
};

const targetOf = (word: string | undefined): Target => {
  const found = TARGETS.find((each) => each === word);
  if (found === undefined) throw new CommandError(`Which process? One of ${TARGETS.join(', ')}.`);
  return found;
};

/** A command on one node. */
const onNode =
  (act: (node: ClusterNode, args: readonly string[]) => Promise<string> | string) =>
  async (cluster: Cluster, [name, ...args]: readonly string[]): Promise<string> =>
    act(nodeOf(cluster, name), args);

const wayOf = (word: string | undefined): 'both' | 'one-way' => {
  if (word !== undefined && word !== 'one-way')
    throw new CommandError(`"${word}" is no way; one-way, or nothing`);
  return word ?? 'both';
};

const CHECK_TIMEOUT_MS = 60_000;

export const COMMANDS: Readonly<Record<string, Command>> = {
  status: { usage: 'status', help: 'the nodes, as the API sees them', run: (cluster) => status(cluster) },
  cut: {
    usage: 'cut NODE [NODE [one-way]]',
    help: 'pull the cable of a node, or let nothing pass between two (one-way: from the first to the second)',
    run: async (cluster, [name, other, way]) => {
      const node = nodeOf(cluster, name);
      if (other === undefined) {
        await node.cut();
        return `${node.name} is cut off`;
      }
      const to = nodeOf(cluster, other);
      await cluster.cutBetween(node.name, to.name, wayOf(way));
      return way === undefined
        ? `nothing passes between ${node.name} and ${to.name}`
        : `nothing passes from ${node.name} to ${to.name}`;
    },
  },
  heal: {
    usage: 'heal [NODE [NODE]]',
    help: 'put the cable back, mend what is between two, or mend all of the network',
    run: async (cluster, [name, other]) => {
      if (name === undefined) {
        await cluster.healNetwork();
        return 'the network is whole';
      }
      const node = nodeOf(cluster, name);
      if (other === undefined) await node.heal();
      else await cluster.healBetween(node.name, nodeOf(cluster, other).name);
      return 'healed';
    },
  },
  delay: {
    usage: 'delay NODE MILLISECONDS',
    help: 'make the cable of a node so long, in each direction; 0 ends it',
    run: onNode(async (node, [text]) => {
      const delayMs = Number(text ?? NaN);
      if (!(delayMs >= 0 && delayMs <= 60_000)) throw new CommandError('How many milliseconds? 0 to 60000.');
      await node.delay(delayMs);
      return `what goes to and from ${node.name} takes ${delayMs} ms more, each way`;
    }),
  },
  freeze: {
    usage: 'freeze NODE PROCESS',
    help: `let a process hang: ${TARGETS.join(', ')}`,
    run: onNode(async (node, [word]) => {
      const target = targetOf(word);
      await (target === 'docker' ? node.engine.freeze() : node.freeze(target));
      return `${target} on ${node.name} hangs`;
    }),
  },
  thaw: {
    usage: 'thaw NODE PROCESS',
    help: 'let it go on',
    run: onNode((node, [word]) => {
      const target = targetOf(word);
      if (target === 'docker') node.engine.thaw();
      else node.thaw(target);
      return `${target} on ${node.name} goes on`;
    }),
  },
  kill: {
    usage: 'kill NODE PROCESS',
    help: 'kill -9 of a process',
    run: onNode(async (node, [word]) => {
      const target = targetOf(word);
      if (target === 'docker') await node.engine.kill();
      else node.kill(target);
      return `${target} on ${node.name} is killed`;
    }),
  },
  'stop-engine': {
    usage: 'stop-engine NODE',
    help: 'stop the Docker Engine, and with it the containers',
    run: onNode(async (node) => {
      await node.stopEngine();
      return `the Docker Engine of ${node.name} is stopped`;
    }),
  },
  'start-engine': {
    usage: 'start-engine NODE',
    help: 'start the Docker Engine, also after it was killed',
    run: onNode(async (node) => {
      await node.startEngine();
      return `the Docker Engine of ${node.name} runs`;
    }),
  },
  restart: {
    usage: 'restart NODE',
    help: 'stop and start ContainerOS; containers run on',
    run: onNode(async (node) => {
      await node.restart();
      return `ContainerOS on ${node.name} has started again`;
    }),
  },
  'power-off': {
    usage: 'power-off NODE',
    help: 'a power cut',
    run: onNode(async (node) => {
      await node.powerOff();
      return `${node.name} is off`;
    }),
  },
  'power-on': {
    usage: 'power-on NODE',
    help: 'power is back: the engine and ContainerOS start',
    run: onNode(async (node) => {
      await node.powerOn();
      return `${node.name} is on`;
    }),
  },
  clock: {
    usage: 'clock NODE OFFSET',
    help: 'move the clock of ContainerOS there: +3h, -90s; +0 ends it (start with --clocks)',
    run: onNode((node, [offset = '']) => {
      if (!/^[+-]\d+[smhd]?$/.test(offset)) throw new CommandError('How much? Like +3h, -90s or +0.');
      node.setClock(offset);
      return `the clock of ${node.name} is at ${offset}`;
    }),
  },
  add: {
    usage: 'add',
    help: 'one more machine joins',
    run: async (cluster) => {
      const { name, address } = await cluster.addNode();
      return `${name} has joined, at ${address}`;
    },
  },
  image: {
    usage: 'image [VERSION]',
    help: 'push a small web server (port 80) to the registry of the cluster; prints its reference',
    run: (cluster, [tag]) => cluster.web(tag),
  },
  exec: {
    usage: 'exec NODE COMMAND…',
    help: 'run a command on a node, such as: exec node-2 docker ps',
    run: onNode(async (node, command) => {
      if (command.length === 0) throw new CommandError('Which command?');
      const { stdout, stderr, code } = await node.engine.exec(command, { mayFail: true });
      return `${stdout}${stderr}${code === 0 ? '' : `(it ended with ${code})`}`.trimEnd();
    }),
  },
  log: {
    usage: 'log NODE',
    help: 'the last lines that ContainerOS wrote there',
    run: onNode((node) => node.product.log().split('\n').slice(-LOG_LINES).join('\n').trimEnd()),
  },
  check: {
    usage: 'check [NODE…]',
    help: 'wait until all is as desired, without the named nodes, which are cut off or down; else say what is not',
    run: async (cluster, names) => {
      const without = names.map((name) => nodeOf(cluster, name).name);
      await assertClusterConverged(cluster, { without, timeoutMs: CHECK_TIMEOUT_MS });
      return 'what runs is what is desired, and nothing else';
    },
  },
};

const LOG_LINES = 40;

/** Each command on a line; `help` and `stop` are of whoever reads the commands. */
export const commandHelp = (): string =>
  [
    ...Object.values(COMMANDS),
    { usage: 'help', help: 'this' },
    { usage: 'stop', help: 'end the cluster; so does Ctrl-C' },
  ]
    .map(({ usage, help }) => `  ${usage.padEnd(28)}${help}`)
    .join('\n');

/**
 * @param words a command and its arguments
 * @returns what to tell the person
 * @throws CommandError for a mistake of theirs; what else is thrown failed in the cluster
 */
export async function runClusterCommand(cluster: Cluster, words: readonly string[]): Promise<string> {
  const [name = 'help', ...args] = words;
  if (name === 'help') return commandHelp();
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new CommandError(`There is no command "${name}".\n${commandHelp()}`);
  try {
    return await command.run(cluster, args);
  } catch (error) {
    if (error instanceof CommandError)
      throw new CommandError(`${error.message}\nIt is written: ${command.usage}`, { cause: error });
    throw error;
  }
}

async function status(cluster: Cluster): Promise<string> {
  const shown = await read<{ items: readonly NodeView[] }>(cluster.instance, '/v1/nodes').then(
    ({ items }) => items,
    (error: Error) => error,
  );
  const seenBy = (name: string): string => {
    if (shown instanceof Error) return `the API does not answer: ${shown.message}`;
    const view = shown.find(({ id }) => id === name);
    if (view === undefined) return 'the API does not show it';
    const { health, availability, connected, replicas, reasons } = view;
    const words = [health, availability, connected ? 'connected' : 'not connected', `${replicas} replicas`];
    return [...words, ...reasons].join(', ');
  };
  return cluster.nodes
    .map(
      ({ name, address, product }) =>
        `${name.padEnd(9)} ${address.padEnd(15)} ${product.isRunning() ? 'runs' : 'does not run'}; ${seenBy(name)}`,
    )
    .join('\n');
}

/** Writes what each node's ContainerOS and Docker Engine have logged. */
export function keepLogs(cluster: Cluster, folder: string): void {
  for (const { name, product, engine } of cluster.nodes) {
    writeFileSync(join(folder, `${name}.log`), product.log());
    writeFileSync(join(folder, `${name}-dockerd.log`), engine.log());
  }
}
