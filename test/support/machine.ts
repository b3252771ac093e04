// A test machine: network, process, mount and host name namespaces of its own, so that it behaves like a
// computer with its own address, its own /run and its own first process. Killing that process is a power cut:
// the kernel ends everything in the machine at once, and nothing can escape: the cable is pulled before, as the kernel
// would tell others that connections end, which nobody does without power.
//
// Its `address` is what the network sees. Its `loopbackAddress` is a way in for the tests only: whatever port
// is asked there is that port on the machine's own 127.0.0.1.
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand, type CommandOptions, type CommandResult } from './process';
import { eventually } from './wait';
import { ipBatch, janitorScript, startTimeOf, useWorld, type World } from './world';

export interface Machine {
  /** Also the name of its network namespace. */
  readonly name: string;
  readonly hostname: string;
  readonly folder: string;
  readonly address: string;
  readonly loopbackAddress: string;
  /** The switch's end of its cable. */
  readonly switchPort: string;
  readonly world: World;
  /** Runs a command in the machine to its end. */
  exec(command: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Starts a command in the machine; `hostPidOf` tells its pid out here. */
  spawn(command: readonly string[], options?: SpawnOptions): ChildProcess;
  /** Where a file of the machine, also on its private mounts, is found out here. */
  pathOut(path: string): string;
  /** The pid out here of the process that is `pid` in the machine. */
  hostPid(pid: number): number | undefined;
  /** Every process of the machine and its containers, by the pid out here. */
  hostPids(): readonly number[];
  /** Pulls the network cable, and puts it back; a power cut changes nothing about that. */
  unplug(): Promise<void>;
  plug(): Promise<void>;
  /** A power cut: all processes are gone at once, and others hear no more of it; disks stay, /run is empty afterwards. */
  powerOff(): Promise<void>;
  powerOn(): Promise<void>;
  dispose(): Promise<void>;
}

export interface MachineOptions {
  readonly hostname?: string;
  /** Puts `<folder>/data` on a file system of this size in memory. It lasts until a power cut. */
  readonly dataTmpfsBytes?: number;
}

const FIRST_ADDRESS = 10;
const FIRST_LOOPBACK_ADDRESS = 130;
const MAX_MACHINES = 110;

export async function startMachine(options: MachineOptions = {}): Promise<Machine> {
  const world = await useWorld();
  const number = world.nextNumber();
  if (number > MAX_MACHINES) throw new Error(`a test world has room for ${MAX_MACHINES} machines`);
  const name = `${world.name}-${number}`;
  const hostname = options.hostname ?? `node-${number}`;
  const folder = join(world.folder, 'machines', name);
  const address = world.addressOf(FIRST_ADDRESS + number);
  const loopbackAddress = world.addressOf(FIRST_LOOPBACK_ADDRESS + number);
  const port = `m${number}`;
  mkdirSync(join(folder, 'data'), { recursive: true });

  await runCommand('ip', ['netns', 'add', name]);
  await ipBatch(
    [
      `link add ${port} type veth peer name eth0 netns ${name}`,
      `link set ${port} master br0`,
      `link set ${port} up`,
    ],
    world.switchNamespace,
  );
  await ipBatch(
    [
      'link set lo up',
      `addr add ${address}/24 dev eth0`,
      `addr add ${loopbackAddress}/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${world.switchAddress}`,
    ],
    name,
  );
  await runCommand('nsenter', [
    `--net=/run/netns/${name}`,
    'sh',
    '-ec',
    SET_UP_NETWORK,
    'sh',
    loopbackAddress,
  ]);

  let init: Init | undefined = await startInit(name, hostname, folder, options.dataTmpfsBytes);
  const running = (): Init => {
    if (init === undefined) throw new Error(`${name} is powered off`);
    return init;
  };
  let isUnplugged = false;
  const setLink = (): Promise<void> =>
    ipBatch([`link set ${port} ${isUnplugged || init === undefined ? 'down' : 'up'}`], world.switchNamespace);
  const enter = (): readonly string[] => ['-t', String(running().pid), '-m', '-u', '-n', '-p'];

  /** Where processes were found, by the machine's numbers. */
  const found = new Map<number, FoundProcess>();
  const hostPid = (pid: number): number | undefined => {
    const before = found.get(pid);
    if (before !== undefined && lives(before)) return before.hostPid;
    found.delete(pid);
    const now = processesIn(running().namespace).find((each) => each.pid === pid)?.hostPid;
    const startTime = now === undefined ? undefined : attempt(() => startTimeOf(now));
    if (now !== undefined && startTime !== undefined) found.set(pid, { hostPid: now, startTime });
    return now;
  };

  const machine: Machine = {
    name,
    hostname,
    folder,
    address,
    loopbackAddress,
    switchPort: port,
    world,
    exec: (command, execOptions) => runCommand('nsenter', [...enter(), '--', ...command], execOptions),
    spawn: (command, spawnOptions = {}) => spawn('nsenter', [...enter(), '--', ...command], spawnOptions),
    pathOut: (path) => join('/proc', String(running().pid), 'root', path),
    hostPid,
    hostPids: () => processesIn(running().namespace).map((each) => each.hostPid),
    unplug: async () => {
      isUnplugged = true;
      await setLink();
    },
    plug: async () => {
      isUnplugged = false;
      await setLink();
    },
    powerOff: async () => {
      const { pid, wrapper } = running();
      init = undefined;
      await setLink();
      if (wrapper.exitCode !== null || wrapper.signalCode !== null) return;
      const gone = once(wrapper, 'exit');
      process.kill(pid, 'SIGKILL');
      await killWaiting(name);
      await gone;
    },
    powerOn: async () => {
      if (init !== undefined) return;
      await forgetConnections(name);
      init = await startInit(name, hostname, folder, options.dataTmpfsBytes);
      await setLink();
    },
    dispose: async () => {
      init = undefined;
      await runCommand('sh', [janitorScript(), 'machine', world.folder, name]);
      await world.release();
    },
  };
  return machine;
}

/**
 * Lets the tests reach what listens on the machine's loopback only; and has the kernel soon give up to tell of the ends
 * of connections that nobody has any more.
 */
const SET_UP_NETWORK = `
  echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
  echo 1 >/proc/sys/net/ipv4/tcp_orphan_retries
  iptables -w -t nat -A PREROUTING -d "$1" -p tcp -j DNAT --to-destination 127.0.0.1
`;

/**
 * A machine that has power again knows nothing of its connections. But its network namespace outlives a power cut: its
 * kernel would tell of their ends, also in packets that wait until it is known where they have to go.
 */
async function forgetConnections(name: string): Promise<void> {
  // Those that are left out have said all that they say by themselves.
  const states = ['state', 'connected', 'exclude', 'time-wait', 'exclude', 'fin-wait-2'];
  await eventually(
    async () => {
      const { stdout } = await runCommand('nsenter', [`--net=/run/netns/${name}`, 'ss', '-Htn', ...states]);
      if (stdout.trim() !== '') throw new Error(stdout);
    },
    { describe: `the connections of ${name} are given up` },
  );
  // A container that owes somebody an answer keeps its network, and with it its address among those of the next engine.
  const { stdout } = await runCommand('ip', ['-n', name, '-o', 'link', 'show', 'type', 'bridge_slave']);
  for (const [, link = ''] of stdout.matchAll(/^\d+: ([^@:]+)/gm)) {
    // One that goes by itself meanwhile is gone.
    await runCommand('ip', ['-n', name, 'link', 'del', link], { mayFail: true });
  }
  await ipBatch(['neigh flush dev eth0'], name);
}

interface Init {
  readonly pid: number;
  readonly namespace: string;
  readonly wrapper: ChildProcess;
}

/**
 * The machine's first process. It ignores SIGCHLD, so that the kernel reaps the orphans given to it. Its /run
 * and /etc/docker are empty and its own, so that nothing of this computer's engine is seen or touched.
 */
const INIT = `
  hostname "$1"
  mount -t tmpfs tmpfs /run
  mkdir -p /etc/docker
  mount -t tmpfs tmpfs /etc/docker
  [ -z "$3" ] || mount -t tmpfs -o "size=$3" tmpfs "$2/data"
  echo ready
  exec env --ignore-signal=CHLD sleep infinity
`;

async function startInit(
  name: string,
  hostname: string,
  folder: string,
  dataTmpfsBytes: number | undefined,
): Promise<Init> {
  const unshare = ['unshare', '--mount', '--uts', '--pid', '--fork', '--mount-proc', '--kill-child', '--'];
  const first = [
    'sh',
    '-ec',
    INIT,
    'sh',
    hostname,
    folder,
    dataTmpfsBytes === undefined ? '' : String(dataTmpfsBytes),
  ];
  const wrapper = spawn('nsenter', [`--net=/run/netns/${name}`, ...unshare, ...first], {
    cwd: '/',
    detached: true, // an interrupt at the terminal is for the test run, which ends its machines in order
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  wrapper.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  await Promise.race([
    once(wrapper.stdout, 'data'),
    once(wrapper, 'exit').then(() => {
      throw new Error(`the machine ${name} does not start: ${errors}`);
    }),
  ]);
  const pid = Number(readFileSync(`/proc/${wrapper.pid}/task/${wrapper.pid}/children`, 'utf8').trim());
  writeFileSync(join(folder, 'init'), `${pid} ${startTimeOf(pid)}\n`);
  wrapper.unref();
  wrapper.stdout.destroy();
  wrapper.stderr.destroy();
  return { pid, namespace: readlinkSync(`/proc/${pid}/ns/pid`), wrapper };
}

interface MachineProcess {
  readonly hostPid: number;
  /** As the machine numbers it. */
  readonly pid: number;
}

/** To look for one means to read about every process of this computer, which takes ten milliseconds and more. */
interface FoundProcess {
  readonly hostPid: number;
  readonly startTime: string;
}

const lives = ({ hostPid, startTime }: FoundProcess): boolean =>
  attempt(
    () => startTimeOf(hostPid) === startTime && !isZombie(readFileSync(`/proc/${hostPid}/status`, 'utf8')),
  ) === true;

const isZombie = (status: string): boolean => /^State:\s*Z/m.test(status);

/** The processes of a machine, with those in its containers, whose pid namespaces are inside the machine's. */
function processesIn(namespace: string): MachineProcess[] {
  const all = new Map<
    number,
    { readonly parent: number; readonly pids: readonly number[]; readonly inside: boolean }
  >();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const status = attempt(() => readFileSync(`/proc/${entry}/status`, 'utf8'));
    const parent = /^PPid:\s*(\d+)$/m.exec(status ?? '')?.[1];
    const pids = /^NSpid:\s*(.*)$/m.exec(status ?? '')?.[1];
    if (status === undefined || parent === undefined || pids === undefined || isZombie(status)) continue;
    const inside = attempt(() => readlinkSync(`/proc/${entry}/ns/pid`)) === namespace;
    all.set(Number(entry), { parent: Number(parent), pids: pids.split(/\s+/).map(Number), inside });
  }
  const belongs = (hostPid: number): boolean => {
    const found = all.get(hostPid);
    return found !== undefined && (found.inside || belongs(found.parent));
  };
  // A machine's namespace is the second from the outside, as this process is in the first.
  return [...all]
    .filter(([hostPid, { pids }]) => pids.length > 1 && belongs(hostPid))
    .map(([hostPid, { pids }]) => ({ hostPid, pid: pids[1] ?? 0 }));
}

/**
 * Ends what waits out here for processes of a machine whose first process is killed. nsenter stops itself when its child
 * is frozen; stopped, it never hears of the child's end, and the machine would wait for that for ever.
 */
async function killWaiting(name: string): Promise<void> {
  const { stdout } = await runCommand('ip', ['netns', 'pids', name]);
  for (const pid of stdout.split('\n').filter((line) => line !== '')) {
    attempt(() => process.kill(Number(pid), 'SIGKILL'));
  }
}

/** A process may end while it is looked at. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** Removes the files that a machine keeps, as a fresh disk would. The machine must be off. */
export function wipeDisk(machine: Machine): void {
  rmSync(join(machine.folder, 'data'), { recursive: true, force: true });
  mkdirSync(join(machine.folder, 'data'));
}
