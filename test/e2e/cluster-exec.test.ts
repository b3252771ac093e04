// `containeros exec` into replicas on the head node and on a machine that joined: what goes in comes out, exit codes and
// terminals, and what becomes of a command whose worker, node or client goes.
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ReplicaView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { clusterScenario } from '../support/cluster/scenario';
import { apply, events, replicas, webSpec } from '../support/product';
import { projectRoot } from '../support/process';
import { eventually } from '../support/wait';

const NAME = 'shop';
const PIPED_BYTES = 50_000_000;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ nodes: 2 });
  await apply(cluster.instance, webSpec(NAME, await cluster.web(), { scale: 2 }));
}, 180_000);

afterAll(() => cluster?.dispose(), 60_000);

/** The command itself, which a machine runs below a process of its own. */
const signal = ({ process: { pid } }: Running, name: 'SIGINT' | 'SIGKILL'): void => {
  const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  process.kill(child ? Number(child) : (pid as number), name);
};

interface Running {
  readonly process: ChildProcess;
  out(): Buffer;
  err(): string;
  readonly ended: Promise<number | null>;
}

/** On the head node, as a person there. */
const start = (
  words: readonly string[],
  wrap: (command: readonly string[]) => readonly string[] = (it) => it,
) => {
  const command = [
    process.execPath,
    join(projectRoot(), 'dist', 'workers', 'containeros.js'),
    'exec',
    ...words,
  ];
  const child = cluster.head.engine.spawn(wrap(command), {
    stdio: 'pipe',
    env: { ...process.env, CONTAINEROS_PASSWORD: cluster.instance.password },
  });
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  const running: Running = {
    process: child,
    out: () => Buffer.concat(out),
    err: () => Buffer.concat(err).toString('utf8'),
    ended: once(child, 'close').then(([code]) => code as number | null),
  };
  return running;
};

const run = async (...words: readonly string[]) => {
  const running = start(words);
  running.process.stdin?.end();
  const code = await running.ended;
  return { code, out: running.out().toString('utf8'), err: running.err() };
};

const replicaOn = async (node: string): Promise<ReplicaView> => {
  const found = (await replicas(cluster.instance, NAME)).find((replica) => replica.node === node);
  if (found === undefined) throw new Error(`${NAME} has no replica on ${node}`);
  return found;
};

/** Command lines in the replica's container. */
const processesOf = async ({ id, node }: ReplicaView): Promise<string> => {
  const container = cluster.node(node).engine.docker.getContainer(`${id}-main`);
  const { Processes: rows } = (await container.top({ ps_args: '-eo pid,args' })) as { Processes: string[][] };
  return rows.map((columns) => columns.join(' ')).join('\n');
};

for (const node of ['node-1', 'node-2']) {
  clusterScenario(
    `a command runs on ${node}: outputs apart, exit code, and 50 MB through a pipe`,
    () => cluster,
    async () => {
      const { id } = await replicaOn(node);
      expect(
        await run(NAME, '--replica', id, '--env', 'A=1', '--', 'sh', '-c', 'echo $A; echo e >&2; exit 9'),
      ).toEqual({ code: 9, out: '1\n', err: 'e\n' });
      expect((await run(NAME, '--replica', id, '--', 'no-such-program')).code).toBe(127);

      const data = randomBytes(PIPED_BYTES);
      const piped = start([NAME, '--replica', id, '-i', '--', 'cat']);
      piped.process.stdin?.end(data);
      expect(await piped.ended).toBe(0);
      const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
      expect(piped.out()).toHaveLength(PIPED_BYTES);
      expect(digest(piped.out())).toBe(digest(data));
    },
  );
}

clusterScenario(
  'a shell on another machine has a terminal, and all of it is told as events',
  () => cluster,
  async ({ instance }) => {
    const { id } = await replicaOn('node-2');
    const shell = start([NAME, '--replica', id], (command) => [
      'script',
      '--quiet',
      '--return',
      '--command',
      `stty rows 33 cols 111; ${command.join(' ')}`,
      '/dev/null',
    ]);
    shell.process.stdin?.write('tty -s || echo none; stty size; sleep 4321\n');
    await eventually(() => expect(shell.out().toString('utf8')).toContain('33 111'));
    await eventually(async () =>
      expect(await processesOf(await replicaOn('node-2'))).toContain('sleep 4321'),
    );
    shell.process.stdin?.write('\u0003exit 5\n');
    expect(await shell.ended).toBe(5);
    expect(shell.out().toString('utf8')).not.toContain('none\r');
    await eventually(async () => {
      const told = (await events(instance, 'type=replica.command_run')).filter(
        ({ replica }) => replica === id,
      );
      expect(told.map(({ message }) => message).join('\n')).toMatch(
        /^127\.0\.0\.1 had a command run in container main of \S+: \/bin\/sh$/m,
      );
    });
  },
);

clusterScenario(
  'a client that is killed, a worker that is killed, and a node that is lost end it',
  () => cluster,
  async () => {
    const replica = await replicaOn('node-2');
    const sleep = async (seconds: string) => {
      const running = start([NAME, '--replica', replica.id, '--', 'sleep', seconds]);
      await eventually(async () => expect(await processesOf(replica)).toContain(`sleep ${seconds}`));
      return running;
    };
    const killed = await sleep('5001');
    signal(killed, 'SIGKILL');
    await eventually(async () => expect(await processesOf(replica)).not.toContain('sleep 5001'));

    const interrupted = await sleep('5002');
    signal(interrupted, 'SIGINT');
    expect(await interrupted.ended).toBe(130);

    const orphan = await sleep('5003');
    cluster.node('node-2').kill('node');
    expect(await orphan.ended).toBe(8);
    expect(orphan.err()).toMatch(
      /^containeros: The connection to node node-2 broke off while the command ran/m,
    );
    await eventually(async () =>
      expect((await run(NAME, '--replica', replica.id, '--', 'sh', '-c', ':')).code).toBe(0),
    );

    const lost = await sleep('5004');
    await cluster.node('node-2').cut();
    try {
      expect(await lost.ended).toBe(8);
      expect(lost.err()).toContain('node-2 was lost while the command ran');
    } finally {
      await cluster.node('node-2').heal();
    }
  },
);
