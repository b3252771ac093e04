// `npm run cluster`: a test cluster for people. It takes commands from its input and from its socket, until it is told to
// stop, and leaves nothing behind: neither then nor when it is killed, as its world has a janitor (world.ts).
import { mkdirSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { runCommand } from '../process';
import { janitorScript, useWorld, type World } from '../world';
import { startCluster, type Cluster } from './cluster';
import { CommandError, commandHelp, keepLogs, runClusterCommand } from './commands';

export interface ClusterMainOptions {
  readonly nodes: number;
  readonly clocks: boolean;
  /** A folder that gets the logs when the cluster ends. */
  readonly keep: string | undefined;
}

/** In the world's folder; the client in scripts/cluster.mjs looks for it there. */
const SOCKET = 'cluster.sock';

/** @returns the exit status, once nothing of the cluster is left */
export async function runClusterMain(options: ClusterMainOptions): Promise<number> {
  const world = await useWorld();
  let cluster: Cluster | undefined;
  let end: (status: number) => void = () => undefined;
  const ended = new Promise<number>((resolve) => (end = resolve));
  // npm and the terminal may both deliver the same Ctrl-C; one end is enough.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => end(0));

  const startedAt = performance.now();
  const serving = startCluster({
    nodes: options.nodes,
    clocks: options.clocks,
    onProgress: (text) => console.log(`  ${text}`),
  }).then(async (started) => {
    cluster = started;
    await listen(join(world.folder, SOCKET), (words) => answer(started, words, () => end(0)));
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(await introduction(started, basename(world.folder), seconds));
    readInput(started, () => end(0));
  });
  serving.catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    end(1);
  });

  const status = await ended;
  console.log('removing the cluster');
  try {
    if (options.keep !== undefined && cluster !== undefined) {
      mkdirSync(options.keep, { recursive: true });
      keepLogs(cluster, options.keep);
      console.log(`its logs are in ${options.keep}`);
    }
  } finally {
    await removeWorld(world);
  }
  return status;
}

/** What is being started meanwhile goes, too. */
const removeWorld = async ({ folder }: World): Promise<void> => {
  await runCommand('sh', [janitorScript(), 'watch', folder], { input: '' });
};

interface Answer {
  readonly ok: boolean;
  readonly text: string;
}

async function answer(cluster: Cluster, words: readonly string[], stop: () => void): Promise<Answer> {
  if (words[0] === 'stop') {
    stop();
    return { ok: true, text: 'it stops' };
  }
  try {
    return { ok: true, text: await runClusterCommand(cluster, words) };
  } catch (error) {
    const { message } = error as Error;
    return { ok: false, text: error instanceof CommandError ? message : `it failed: ${message}` };
  }
}

/** One JSON array of words for a line, and one answer for each. */
async function listen(path: string, run: (words: readonly string[]) => Promise<Answer>): Promise<Server> {
  const server = createServer((socket: Socket) => {
    socket.on('error', () => undefined); // whoever asked has gone
    createInterface({ input: socket }).on('line', (line) => {
      void run(JSON.parse(line) as readonly string[]).then((found) =>
        socket.write(`${JSON.stringify(found)}\n`),
      );
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return server;
}

/** One command at a time, in their order. The end of input that is no terminal is not the end of the cluster. */
function readInput(cluster: Cluster, stop: () => void): void {
  const isTerminal = process.stdin.isTTY;
  const lines = createInterface({ input: process.stdin, output: process.stdout, terminal: isTerminal });
  lines.on('SIGINT', stop); // a terminal in raw mode sends no signal
  lines.on('close', () => {
    if (isTerminal) stop();
  });
  const prompt = (): void => {
    if (isTerminal) lines.prompt();
  };
  let last: Promise<void> = Promise.resolve();
  lines.on('line', (line) => {
    const words = line.split(/\s+/).filter((word) => word !== '');
    if (words.length === 0) return prompt();
    last = last.then(async () => {
      console.log((await answer(cluster, words, stop)).text);
      prompt();
    });
  });
  prompt();
}

async function introduction(cluster: Cluster, number: string, seconds: string): Promise<string> {
  const { instance, head, nodes, registry } = cluster;
  const host = head.engine.loopbackAddress;
  const { password } = instance;
  const image = await cluster.web();
  const spec = `{"name":"hello","scale":${nodes.length * 2},"containers":{"web":{"image":"${image}","ports":[80]}}}`;
  return `
Cluster ${number} of ${nodes.length} nodes is ready (${seconds} s). From this computer:

  API              http://${host}:${instance.apiPort}   (password ${password})
  Temporal Web UI  http://${host}:${instance.temporalUiPort}
  Registry         ${registry.host}

${nodes.map((node) => `  ${node.name.padEnd(9)} ${node.address}${node === head ? '   the head: control plane and API' : ''}`).join('\n')}

Deploy two copies for each node:

  curl -X POST 'http://${host}:${instance.apiPort}/v1/microservices?wait=60' \\
    -H 'Authorization: Bearer ${password}' -H 'Content-Type: application/json' \\
    -d '${spec}'

Then do something to it, here or as \`npm run cluster -- COMMAND\` in another terminal (with \`--cluster ${number}\`
before the command when several run):

${commandHelp()}
`;
}
