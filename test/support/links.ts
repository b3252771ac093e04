// What can be wrong with the links between test machines: nothing passes between two of them, in both directions or in
// one, or everything takes longer. (A cable that is pulled out: `unplug` in machine.ts.)
// Invariants: all of it is done at the switch, so that a machine sees no more of it than of a bad network, and keeps it
// through power cuts; the janitor, which removes machines, removes what was done to their links.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Machine } from './machine';
import { projectRoot, runCommand } from './process';
import { findProgram } from './programs';
import { ipBatch, startTimeOf, type World } from './world';

export type Way = 'both' | 'one-way';

/** From the first machine to the second, by their names. */
const cuts = new WeakMap<World, Set<string>>();

const cutsOf = (world: World): Set<string> => {
  const known = cuts.get(world) ?? new Set();
  cuts.set(world, known);
  return known;
};

/**
 * Lets no packet pass between two machines, which both reach all others. Nobody is told: packets are lost in silence, as
 * in a bad switch or firewall.
 *
 * @param way `one-way`: what `from` sends does not reach `to`, but what `to` sends reaches `from`
 */
export async function cutBetween(from: Machine, to: Machine, way: Way = 'both'): Promise<void> {
  await setPath(from, to, 'cut');
  if (way === 'both') await setPath(to, from, 'cut');
}

/** Takes back `cutBetween`. Does nothing to paths that are whole. */
export async function healBetween(from: Machine, to: Machine, way: Way = 'both'): Promise<void> {
  await setPath(from, to, 'whole');
  if (way === 'both') await setPath(to, from, 'whole');
}

/** One rule for each pair of ports that a frame between the two can pass, whether their cables are long or not. */
async function setPath(from: Machine, to: Machine, wanted: 'cut' | 'whole'): Promise<void> {
  const known = cutsOf(from.world);
  const path = `${from.name}>${to.name}`;
  if (known.has(path) === (wanted === 'cut')) return;
  for (const incoming of portsOf(from)) {
    for (const outgoing of portsOf(to)) {
      await runCommand('nsenter', [
        `--net=/run/netns/${from.world.switchNamespace}`,
        ...[findProgram('ebtables'), '--concurrent', wanted === 'cut' ? '-A' : '-D', 'FORWARD'],
        // Whoever is cut off one way only must still be told the other's hardware address.
        ...['-i', incoming, '-o', outgoing, '-p', '!', 'ARP', '-j', 'DROP'],
      ]);
    }
  }
  if (wanted === 'cut') known.add(path);
  else known.delete(path);
}

/** The ports of the bridge that a machine's cable may be in. */
const portsOf = (machine: Machine): readonly string[] => [machine.switchPort, farPort(machine)];

// Known to the janitor, too.
const farPort = ({ switchPort }: Machine): string => `${switchPort}-far`;
const nearPort = ({ switchPort }: Machine): string => `${switchPort}-near`;

interface Relay {
  readonly process: ChildProcess;
  readonly answers: Interface;
  errors: string;
}

const relays = new Map<string, Relay>();

/**
 * Makes a machine's cable long: every frame comes so much later, in each direction, so that a round trip takes twice as
 * long. The relay that does it is put between the cable and the switch, which costs the frames of that moment.
 *
 * @param delayMs milliseconds; 0 takes the relay out
 */
export async function delayLink(machine: Machine, delayMs: number): Promise<void> {
  const relay = relays.get(machine.name);
  if (relay !== undefined && !hasEnded(relay)) {
    if (delayMs > 0) await tell(relay, delayMs);
    else await removeRelay(machine, relay);
  } else if (delayMs > 0) {
    await insertRelay(machine, delayMs);
  } else if (relay !== undefined) {
    await removeRelay(machine, relay); // its process has ended by itself: the cable is dead until it is put back
  }
}

/** The interface that the cable leads to is taken out of the bridge; the relay leads on, to a port that is put in. */
async function insertRelay(machine: Machine, delayMs: number): Promise<void> {
  const { switchNamespace } = machine.world;
  const [cable, near, far] = [machine.switchPort, nearPort(machine), farPort(machine)];
  await ipBatch(
    [
      `link add ${near} type veth peer name ${far}`,
      // The switch's own IP stack would answer for its address on these two, with a wrong hardware address.
      ...[near, cable].flatMap((port) => [`link set ${port} arp off`, `link set ${port} addrgenmode none`]),
      `link set ${near} up`,
      `link set ${far} up`,
    ],
    switchNamespace,
  );
  const child = spawn(
    'nsenter',
    [
      `--net=/run/netns/${switchNamespace}`,
      ...[findPython(), join(projectRoot(), 'test', 'support', 'relay.py'), cable, near],
    ],
    { cwd: '/', detached: true, stdio: ['pipe', 'pipe', 'pipe'] },
  );
  if (child.pid === undefined) throw new Error('the relay cannot be started');
  const relay: Relay = { process: child, answers: createInterface({ input: child.stdout }), errors: '' };
  relays.set(machine.name, relay);
  child.stderr.on('data', (chunk: Buffer) => (relay.errors += chunk.toString()));
  child.stdin.on('error', () => undefined); // its end tells, when the next delay is set
  child.unref();
  for (const pipe of [child.stdin, child.stdout, child.stderr]) (pipe as Socket).unref();
  writeFileSync(relayFile(machine), `${child.pid} ${startTimeOf(child.pid)}\n`);
  try {
    await tell(relay, delayMs);
    await ipBatch([`link set ${cable} nomaster`, `link set ${far} master br0`], switchNamespace);
  } catch (error) {
    await removeRelay(machine, relay);
    throw error;
  }
}

async function removeRelay(machine: Machine, relay: Relay): Promise<void> {
  relays.delete(machine.name);
  if (!hasEnded(relay)) {
    relay.process.ref();
    const gone = once(relay.process, 'exit');
    relay.process.stdin?.end();
    await gone;
  }
  rmSync(relayFile(machine), { force: true });
  await ipBatch(
    [
      `link del ${nearPort(machine)}`,
      `link set ${machine.switchPort} master br0`,
      `link set ${machine.switchPort} arp on`,
    ],
    machine.world.switchNamespace,
  );
}

/** Returns when the delay holds. */
async function tell(relay: Relay, delayMs: number): Promise<void> {
  const { process: child, answers } = relay;
  child.ref();
  (child.stdout as Socket).ref();
  try {
    await new Promise<void>((resolve, reject) => {
      const end = (): void => reject(new Error(`the relay of a link ended: ${relay.errors}`));
      child.once('exit', end);
      answers.once('line', () => {
        child.off('exit', end);
        resolve();
      });
      child.stdin?.write(`${delayMs}\n`);
    });
  } finally {
    child.unref();
    (child.stdout as Socket).unref();
  }
}

const hasEnded = ({ process: child }: Relay): boolean => child.exitCode !== null || child.signalCode !== null;

/** Where the janitor finds the relay: `PID STARTTIME`. */
const relayFile = (machine: Machine): string => join(machine.folder, 'relay');

/** The system's, which set-up has seen to, whatever comes first on the PATH. */
const findPython = (): string =>
  existsSync('/usr/bin/python3') ? '/usr/bin/python3' : findProgram('python3');
