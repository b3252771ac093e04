// A test world: one subnet of this machine's own making, in which test machines and a registry live.
//
//     test process ── cos<i> (.254) ──▶ bridge in a namespace, the switch (.1) ──▶ eth0 of each machine (.11, …)
//
// The switch has a namespace of its own, so that nothing but one link and one route is added to the namespace
// of the tests: no bridge, no packet filter rule, no forwarding switched on.
// Invariants: two worlds on one machine share nothing; everything is removed when the last user lets go, and by
// the janitor when the owner dies by whatever cause; traffic for a world that is gone never leaves the machine.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot, runCommand } from './process';

export interface World {
  /** `cos-<pid of the owner>-<index>`: every name that the world gives begins so. */
  readonly name: string;
  readonly folder: string;
  readonly subnet: string;
  /** The address of the switch: the machines' default gateway, where a registry may listen. */
  readonly switchAddress: string;
  readonly switchNamespace: string;
  /** The test process's own address in the subnet. */
  readonly ownerAddress: string;
  /** A number not given before in this world. */
  nextNumber(): number;
  /** The address with this last part. */
  addressOf(lastPart: number): string;
  /** To be called once by each user when it needs the world no more; the last one's call removes it. */
  release(): Promise<void>;
}

const WORLDS_FOLDER = join(tmpdir(), 'containeros-test');
const MAX_WORLDS = 1024;
/** Worlds take 10.210.0.0/24 to 10.213.255.0/24, whichever are free. */
const FIRST_SECOND_PART = 210;
/** Locally administered; each switch is alone in its world. */
const SWITCH_MAC = '02:00:00:00:00:01';
/** Of little weight: it counts only when the link itself is gone. */
const FALLBACK_ROUTE_METRIC = 4_000_000;

export const janitorScript = (): string => join(projectRoot(), 'test', 'support', 'janitor.sh');

let current: Promise<OpenWorld> | undefined;

interface OpenWorld {
  readonly world: World;
  users: number;
}

/** The world of this test file, made at its first use. */
export async function useWorld(): Promise<World> {
  current ??= openWorld();
  const open = await current;
  open.users += 1;
  return open.world;
}

async function openWorld(): Promise<OpenWorld> {
  if (process.getuid?.() !== 0)
    throw new Error('tests with real engines need root: they make network namespaces');
  mkdirSync(WORLDS_FOLDER, { recursive: true });
  await runCommand('sh', [janitorScript(), 'sweep', WORLDS_FOLDER]);
  const index = await claimIndex();
  const folder = join(WORLDS_FOLDER, String(index));
  const name = `cos-${process.pid}-${index}`;
  const switchNamespace = `${name}-switch`;
  const addressOf = (lastPart: number): string =>
    `10.${FIRST_SECOND_PART + (index >> 8)}.${index & 255}.${lastPart}`;
  const subnet = `${addressOf(0)}/24`;
  writeFileSync(join(folder, 'subnet'), `${subnet}\n`);
  writeFileSync(join(folder, 'owner'), `${process.pid} ${startTimeOf(process.pid)} ${name}\n`);
  mkdirSync(join(folder, 'machines'));
  const janitor = startJanitor(folder);

  const link = `cos${index}`;
  await runCommand('ip', ['netns', 'add', switchNamespace]);
  await ipBatch([
    `route add unreachable ${subnet} metric ${FALLBACK_ROUTE_METRIC}`,
    `link add ${link} type veth peer name uplink netns ${switchNamespace}`,
    `addr add ${addressOf(254)}/24 dev ${link}`,
    `link set ${link} up`,
  ]);
  await ipBatch(
    [
      'link set lo up',
      // Without an address of its own a bridge takes that of a port, and another one's when machines come and go:
      // whoever knows the old one is not heard for as long as its neighbour entry lives.
      `link add br0 address ${SWITCH_MAC} type bridge forward_delay 0 stp_state 0`,
      `addr add ${addressOf(1)}/24 dev br0`,
      'link set uplink master br0',
      'link set uplink up',
      'link set br0 up',
    ],
    switchNamespace,
  );

  let number = 0;
  const open: OpenWorld = {
    users: 0,
    world: {
      name,
      folder,
      subnet,
      switchAddress: addressOf(1),
      switchNamespace,
      ownerAddress: addressOf(254),
      addressOf,
      nextNumber: () => (number += 1),
      release: async () => {
        open.users -= 1;
        if (open.users > 0) return;
        current = undefined;
        janitor.ref();
        const gone = once(janitor, 'exit');
        janitor.stdin?.end();
        await gone;
      },
    },
  };
  return open;
}

/** Making a folder is atomic, so the number belongs to whoever made it. */
async function claimIndex(): Promise<number> {
  const routes = (await runCommand('ip', ['-4', 'route', 'show', 'table', 'all'])).stdout;
  // Begin at a place of one's own, so that runs that start together rarely try the same number.
  for (let i = 0; i < MAX_WORLDS; i += 1) {
    const index = (process.pid + i) % MAX_WORLDS;
    if (routes.includes(` 10.${FIRST_SECOND_PART + (index >> 8)}.${index & 255}.`)) continue;
    try {
      mkdirSync(join(WORLDS_FOLDER, String(index)));
      return index;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  throw new Error(`${MAX_WORLDS} test worlds exist on this machine already`);
}

/** It holds the read end of a pipe whose write end only this process has: its end is our end. */
function startJanitor(folder: string): ChildProcess {
  const janitor = spawn('sh', [janitorScript(), 'watch', folder], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  janitor.unref();
  (janitor.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  return janitor;
}

/** The kernel's start time of a process: with its pid, it names the process for good. */
export function startTimeOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  if (startTime === undefined) throw new Error(`/proc/${pid}/stat is not understood`);
  return startTime;
}

/** Runs several `ip` commands in one process, in a namespace or in the tests' own. */
export async function ipBatch(lines: readonly string[], namespace?: string): Promise<void> {
  const where = namespace === undefined ? [] : ['-n', namespace];
  await runCommand('ip', [...where, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
