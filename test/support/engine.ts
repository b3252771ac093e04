// A real Docker Engine on a test machine of its own (machine.ts), the same program that users run.
// Invariants: it shares nothing with this computer's engine or another test's; containers live in a cgroup of
// their own, so that they can be found and removed when everything else has failed.
import { type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Docker from 'dockerode';
import { startMachine, type Machine, type MachineOptions } from './machine';
import { freezeProcess } from './process';
import { findProgram } from './programs';
import { eventually, eventuallyValue, Hopeless } from './wait';

export interface DockerEngineOptions {
  readonly hostname?: string;
  /** Puts the engine's data on a file system of this size in memory, for tests with a full disk. */
  readonly dataRootTmpfsBytes?: number;
  /** More settings for the engine's daemon.json. */
  readonly daemonConfig?: Readonly<Record<string, unknown>>;
}

export interface DockerEngine extends Machine {
  /** The engine's socket, for the tests. In the machine it also listens on /var/run/docker.sock, as usual. */
  readonly socketPath: string;
  readonly docker: Docker;
  /** The last start's time, from nothing to the first answer. */
  readonly startedInMs: number;
  /** An orderly stop: containers are stopped too, unless the engine is set to keep them. */
  stop(): Promise<void>;
  /** kill -9 of the engine alone: the containers go on. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** The engine hangs: connections are accepted by the kernel and never answered. */
  freeze(): Promise<void>;
  thaw(): void;
  log(): string;
}

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 30_000;

/** In the machine, where /run is its own. */
export const SOCKET_IN_MACHINE = '/var/run/docker.sock';

export async function startDockerEngine(options: DockerEngineOptions = {}): Promise<DockerEngine> {
  const machineOptions: MachineOptions = {
    ...(options.hostname === undefined ? {} : { hostname: options.hostname }),
    ...(options.dataRootTmpfsBytes === undefined ? {} : { dataTmpfsBytes: options.dataRootTmpfsBytes }),
  };
  const machine = await startMachine(machineOptions);
  const socketPath = join(machine.folder, 'docker.sock');
  const logPath = join(machine.folder, 'dockerd.log');
  const configPath = join(machine.folder, 'daemon.json');
  mkdirSync(join(machine.folder, 'data'), { recursive: true });
  writeFileSync(configPath, JSON.stringify(daemonConfig(machine, socketPath, options)));

  const docker = new Docker({ socketPath });
  let daemon: ChildProcess | undefined;
  let startedInMs = 0;

  const start = async (): Promise<void> => {
    if (daemon !== undefined) return;
    const startedAt = performance.now();
    const log = openSync(logPath, 'a');
    const child = machine.spawn([findProgram('dockerd'), '--config-file', configPath], {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    child.unref();
    daemon = child;
    await eventually(
      async () => {
        if (hasEnded(child)) throw new Hopeless(`dockerd ended:\n${tail(logPath)}`);
        await docker.ping();
      },
      { timeoutMs: START_TIMEOUT_MS, intervalMs: 10, describe: 'dockerd answers' },
    );
    startedInMs = Math.round(performance.now() - startedAt);
  };

  const signal = async (name: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    const child = daemon;
    daemon = undefined;
    if (child === undefined || hasEnded(child)) return;
    const containerd = containerdPid(machine);
    process.kill(daemonPid(child), name);
    await eventually(
      () => {
        thawWrapper(child);
        if (!hasEnded(child)) throw new Error(`dockerd still runs\n${tail(logPath)}`);
      },
      { timeoutMs: STOP_TIMEOUT_MS, intervalMs: 5, describe: `dockerd ends after ${name}` },
    );
    // An engine that starts while the old containerd is dying takes it for a living one, and waits in vain.
    await eventuallyValue(
      () => (containerd === undefined ? undefined : machine.hostPid(containerd)),
      (pid) => pid === undefined,
      { intervalMs: 5, describe: 'containerd ends with its engine' },
    );
  };

  const engine: DockerEngine = {
    ...machine,
    socketPath,
    docker,
    get startedInMs() {
      return startedInMs;
    },
    start,
    stop: () => signal('SIGTERM'),
    kill: () => signal('SIGKILL'),
    freeze: () => freezeProcess(daemonPid(daemon), daemon?.pid),
    thaw: () => {
      process.kill(daemonPid(daemon), 'SIGCONT');
      if (daemon !== undefined) thawWrapper(daemon);
    },
    log: () => readFileSync(logPath, 'utf8'),
    powerOff: async () => {
      daemon = undefined;
      await machine.powerOff();
    },
    powerOn: async () => {
      await machine.powerOn();
      await start();
    },
  };
  try {
    await start();
  } catch (error) {
    await machine.dispose();
    throw error;
  }
  return engine;
}

function daemonConfig(
  machine: Machine,
  socketPath: string,
  options: DockerEngineOptions,
): Record<string, unknown> {
  return {
    'data-root': join(machine.folder, 'data'),
    'exec-root': '/run/docker',
    pidfile: '/run/docker.pid',
    hosts: [`unix://${SOCKET_IN_MACHINE}`, `unix://${socketPath}`],
    'exec-opts': ['native.cgroupdriver=cgroupfs'],
    'cgroup-parent': `/${machine.name}`,
    'insecure-registries': [machine.world.subnet],
    'log-level': 'warn',
    ...options.daemonConfig,
  };
}

/** As the machine numbers it. */
function containerdPid(machine: Machine): number | undefined {
  const path = machine.pathOut('/run/docker/containerd/containerd.pid');
  return existsSync(path) ? Number(readFileSync(path, 'utf8')) : undefined;
}

/** nsenter waits for the daemon out here; the daemon is its only child. */
function daemonPid(wrapper: ChildProcess | undefined): number {
  if (wrapper?.pid === undefined || hasEnded(wrapper)) throw new Error('the engine does not run');
  return Number(readFileSync(`/proc/${wrapper.pid}/task/${wrapper.pid}/children`, 'utf8').trim());
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** nsenter stops itself when its child is stopped, and then would not see the child's end. */
function thawWrapper(wrapper: ChildProcess): void {
  if (!hasEnded(wrapper)) wrapper.kill('SIGCONT');
}

function tail(path: string): string {
  return readFileSync(path, 'utf8').split('\n').slice(-20).join('\n');
}
