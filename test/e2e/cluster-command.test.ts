// `npm run cluster`, as a person uses it; and what is left when it ends, however it ends: nothing.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NodeView, OperationView } from '../../openapi/schemas';
import { httpRequest } from '../support/http';
import { projectRoot, runCommand, type CommandResult } from '../support/process';
import { eventually, Hopeless } from '../support/wait';
import { useWorld } from '../support/world';

jest.setTimeout(180_000);

const SCRIPT = join(projectRoot(), 'scripts', 'cluster.mjs');
const START_TIMEOUT_MS = 120_000;

interface RunningCommand {
  readonly process: ChildProcess;
  readonly folder: string;
  readonly url: string;
  readonly password: string;
  output(): string;
  /** `npm run cluster -- …` in another terminal. */
  tell(...words: readonly string[]): Promise<CommandResult>;
}

const started: ChildProcess[] = [];

// Not to outlive a test that failed.
afterEach(async () => {
  for (const child of started.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
});

async function start(...args: readonly string[]): Promise<RunningCommand> {
  const child = spawn(process.execPath, [SCRIPT, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  started.push(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const [, number = ''] = await eventually(
    () => {
      if (child.exitCode !== null) throw new Hopeless(`it ended:\n${text}`);
      const found = /Cluster (\d+) of [^]*end the cluster/.exec(text);
      if (found === null) throw new Error(text);
      return found;
    },
    { timeoutMs: START_TIMEOUT_MS, describe: 'the cluster is ready' },
  );
  const [, url = '', password = ''] = /API +(\S+) +\(password (\S+)\)/.exec(text) ?? [];
  return {
    process: child,
    folder: join(tmpdir(), 'containeros-test', number),
    url,
    password,
    output: () => text,
    tell: (...words) =>
      runCommand(process.execPath, [SCRIPT, '--cluster', number, ...words], {
        mayFail: true,
        timeoutMs: 120_000,
      }),
  };
}

/** What of a cluster is on this computer. */
interface Traces {
  readonly name: string;
  readonly folder: string;
  readonly pids: readonly string[];
}

async function tracesOf({ process: { pid }, folder }: RunningCommand): Promise<Traces> {
  const [owner, , name = ''] = readFileSync(join(folder, 'owner'), 'utf8').trim().split(' ');
  expect(owner).toBe(String(pid));
  const spaces = (await runCommand('ip', ['netns', 'list'])).stdout
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((each) => each.startsWith(`${name}-`));
  expect(spaces.length).toBeGreaterThanOrEqual(3); // two machines and the switch
  const lists = await Promise.all(spaces.map((each) => runCommand('ip', ['netns', 'pids', each])));
  return { name, folder, pids: lists.flatMap(({ stdout }) => stdout.split('\n').filter(Boolean)) };
}

const assertGone = (traces: Traces): Promise<void> =>
  eventually(
    async () => {
      const { name, folder, pids } = traces;
      expect(existsSync(folder)).toBe(false);
      expect(pids.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
      expect((await runCommand('ip', ['netns', 'list'])).stdout).not.toContain(`${name}-`);
      expect((await runCommand('ip', ['link'])).stdout).not.toContain(`cos${folder.split('/').at(-1)}@`);
      expect(readdirSync('/sys/fs/cgroup').filter((each) => each.startsWith(`${name}-`))).toEqual([]);
      expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(`${folder}/`);
    },
    { timeoutMs: 30_000, describe: 'nothing of it is left' },
  );

test('it starts a cluster, takes commands here and from elsewhere, and leaves logs and nothing else', async () => {
  const logs = mkdtempSync(join(tmpdir(), 'containeros-logs-'));
  try {
    const command = await start('2', '--keep', logs);
    const { url, password } = command;
    const nodes = await httpRequest(`${url}/v1/nodes`, { headers: { authorization: `Bearer ${password}` } });
    expect((nodes.body as { items: NodeView[] }).items.map(({ id }) => id)).toEqual(['node-1', 'node-2']);

    // The very line that it prints.
    const [, curl = ''] = /^( +curl -X POST[^]*?')\n\n/m.exec(command.output()) ?? [];
    const { stdout } = await runCommand('sh', ['-c', curl.replace('curl ', 'curl -sS ')]);
    const answer = JSON.parse(stdout) as OperationView;
    expect(answer).toMatchObject({ state: 'succeeded', scale: 4 });

    expect(await command.tell('status')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/node-1 .*healthy.*2 replicas\nnode-2 .*healthy.*2 replicas/) as string,
    });
    expect((await command.tell('exec', 'node-2', 'hostname')).stdout).toBe('node-2\n');
    expect(await command.tell('cut', 'node-2')).toMatchObject({ code: 0, stdout: 'node-2 is cut off\n' });
    expect(await command.tell('check', 'node-2')).toMatchObject({ code: 0 });
    command.process.stdin?.write('status\nheal node-2\n');
    await eventually(() => expect(command.output()).toMatch(/node-2 .*lost[^]*healed/));
    expect(await command.tell('check')).toMatchObject({ code: 0 });

    expect(await command.tell('cut', 'node-7')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /no node "node-7"; there are node-1, node-2[^]*written: cut NODE/,
      ) as string,
    });
    expect((await command.tell('bogus')).stderr).toMatch(/There is no command "bogus"/);

    const traces = await tracesOf(command);
    const gone = once(command.process, 'exit');
    command.process.kill('SIGINT');
    command.process.kill('SIGINT'); // as from a terminal and from npm
    expect(await gone).toEqual([0, null]);
    await assertGone(traces);
    expect(readFileSync(join(logs, 'node-2.log'), 'utf8')).toContain('This machine is node node-2');
    expect(readdirSync(logs).sort()).toEqual([
      'node-1-dockerd.log',
      'node-1.log',
      'node-2-dockerd.log',
      'node-2.log',
    ]);
  } finally {
    rmSync(logs, { recursive: true, force: true });
  }
});

test('kill -9 in the middle of faults leaves nothing', async () => {
  const command = await start('2');
  await command.tell('delay', 'node-2', '20');
  await command.tell('cut', 'node-1', 'node-2', 'one-way');
  expect(await command.tell('freeze', 'node-2', 'docker')).toMatchObject({ code: 0 });
  expect(await command.tell('freeze', 'node-1', 'supervisor')).toMatchObject({ code: 0 });
  const traces = await tracesOf(command);
  command.process.kill('SIGKILL');
  await assertGone(traces);
});

test('when the janitor is killed too, the next start removes what is left', async () => {
  const command = await start('2');
  const traces = await tracesOf(command);
  const janitors = readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words.includes('watch') && words.includes(command.folder);
    } catch {
      return false; // it has ended meanwhile
    }
  });
  expect(janitors).toHaveLength(1);
  process.kill(Number(janitors[0]), 'SIGKILL');
  const gone = once(command.process, 'exit');
  command.process.kill('SIGKILL');
  await gone;
  expect(existsSync(traces.folder)).toBe(true);

  const world = await useWorld();
  await assertGone(traces);
  await world.release();
});

test('a wrong command line is answered with the right one', async () => {
  const run = (...args: readonly string[]): Promise<CommandResult> =>
    runCommand(process.execPath, [SCRIPT, ...args], { mayFail: true });
  for (const args of [['0'], ['3', '4'], ['--bogus']]) {
    const { code, stderr } = await run(...args);
    expect(code).toBe(1);
    expect(stderr).toContain('npm run cluster -- 3');
  }
  expect(await run('--cluster', 'none', 'status')).toMatchObject({ code: 1 });
});
