// One node of a test cluster: a machine, its Docker Engine and its ContainerOS, and everything that can go wrong with
// them. Each fault has its opposite, and both may be repeated.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DockerEngine } from '../engine';
import { delayLink } from '../links';
import type { ProductProcess, Role } from '../product-process';
import { findUnpacked } from '../programs';

export interface ClusterNode {
  /** Its id in the cluster, and its host name. */
  readonly name: string;
  readonly address: string;
  /** The machine, too. */
  readonly engine: DockerEngine;
  readonly product: ProductProcess;
  /** Pulls the network cable, and puts it back. */
  cut(): Promise<void>;
  heal(): Promise<void>;
  /** Every frame takes so many milliseconds more, in each direction; 0 ends it. */
  delay(delayMs: number): Promise<void>;
  /** A process of ContainerOS hangs, and goes on. */
  freeze(role: Role): Promise<void>;
  thaw(role: Role): void;
  /** kill -9; its supervisor starts it again. */
  kill(role: Role): void;
  /** In order: its containers stop, too. */
  stopEngine(): Promise<void>;
  startEngine(): Promise<void>;
  /** Ctrl-C, and a new start; containers run on. */
  restart(): Promise<void>;
  /** A power cut. `powerOn` starts the engine and ContainerOS again, and waits until it is a node. */
  powerOff(): Promise<void>;
  powerOn(): Promise<void>;
  /**
   * Moves the clock of ContainerOS's own processes, which see it within a second; not the engines', which are static
   * programs. Needs `clocks: true` at the cluster's start.
   *
   * @param offset as `+3h` or `-90s`; `+0` ends it
   */
  setClock(offset: string): void;
}

export interface NodeClock {
  readonly file: string;
  readonly env: Readonly<Record<string, string>>;
}

/** For the start of a node's processes; the file says how much their clock is off. */
export function prepareClock(engine: DockerEngine): NodeClock {
  const file = join(engine.folder, 'clock');
  writeFileSync(file, '+0\n');
  return {
    file,
    env: {
      LD_PRELOAD: findUnpacked('libfaketimeMT.so.1'),
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_CACHE_DURATION: '1', // seconds until the file is read again
      // The kernel's monotonic clock does not jump either.
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
  };
}

export function createClusterNode(
  engine: DockerEngine,
  product: ProductProcess,
  clock: NodeClock | undefined,
): ClusterNode {
  return {
    name: engine.hostname,
    address: engine.address,
    engine,
    product,
    cut: () => engine.unplug(),
    heal: () => engine.plug(),
    delay: (delayMs) => delayLink(engine, delayMs),
    freeze: (role) => product.freeze(role),
    thaw: (role) => product.thaw(role),
    kill: (role) => product.kill(role),
    stopEngine: () => engine.stop(),
    startEngine: () => engine.start(),
    restart: async () => {
      await product.stop();
      await product.start();
    },
    powerOff: () => engine.powerOff(),
    powerOn: async () => {
      await engine.powerOn();
      await product.start();
    },
    setClock: (offset) => {
      if (clock === undefined) throw new Error('start the cluster with clocks: true to move clocks');
      writeFileSync(clock.file, `${offset}\n`);
    },
  };
}
