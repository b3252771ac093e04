// The whole product on a test machine, started as a user starts it: `containeros up --dev`.
// Invariants: nothing is shared with another instance; the way in is the machine's loopback, as `--dev` listens
// nowhere else; whatever it wrote to its output can be read afterwards.
import { type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DockerEngine } from './engine';
import { httpRequest, type HttpAnswer, type HttpOptions } from './http';
import { freezeProcess, projectRoot, runCommand } from './process';
import { engineVariables } from './programs';
import { eventually, Hopeless } from './wait';

export const ROLES = ['temporal', 'consul', 'control-plane', 'node', 'api'] as const;
export type Role = (typeof ROLES)[number] | 'supervisor';

export interface InstanceOptions {
  readonly engine: DockerEngine;
  /** Further flags of `up`. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Without it: `--dev`, whose password is `dev`. */
  readonly password?: string;
  /** Several instances on one machine: each moves all its ports by this. */
  readonly portOffset?: number;
}

export interface RequestOptions extends HttpOptions {
  /** As JSON, unless it is text already. */
  readonly body?: unknown;
  /** Another password, or none. */
  readonly password?: string | null;
}

export interface Instance {
  readonly engine: DockerEngine;
  readonly dataDir: string;
  readonly apiPort: number;
  readonly consulPort: number;
  readonly temporalUiPort: number;
  /** For a Temporal client in the test. */
  readonly temporalAddress: string;
  /** How long the last start took until it was ready. */
  readonly startedInMs: number;
  /** Where a port that the product listens on or exposes is reached from the tests. */
  outside(address: string): string;
  api(method: string, path: string, options?: RequestOptions): Promise<HttpAnswer>;
  /** Consul's HTTP API; throws unless the answer is good. */
  consul<T>(path: string): Promise<T>;
  /** The id in the label `containeros.cluster`. */
  clusterId(): string;
  /** The pid out here; throws when the role does not run. */
  pid(role: Role): number;
  kill(role: Role, signal?: NodeJS.Signals): void;
  /** kill -9 of all processes of the product at once; they are gone when it returns. */
  killAll(): Promise<void>;
  isRunning(): boolean;
  freeze(role: Role): Promise<void>;
  thaw(role: Role): void;
  /** Ctrl-C, and waits for the end. */
  stop(): Promise<void>;
  start(): Promise<void>;
  log(): string;
  /** Stops it and removes its data. Containers stay; the engine's end is theirs. */
  dispose(): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const PORTS = { api: 8000, cluster: 7443, temporal: 7233, temporalUi: 8233, consul: 8500 };

let built: Promise<unknown> | undefined;
const buildOnce = (): Promise<unknown> =>
  (built ??= runCommand(process.execPath, [join(projectRoot(), 'scripts', 'build.mjs')], {
    timeoutMs: 120_000,
  }));

export async function startInstance(options: InstanceOptions): Promise<Instance> {
  await buildOnce();
  const { engine, portOffset = 0 } = options;
  const dataDir = join(engine.folder, `instance-${portOffset}`);
  mkdirSync(dataDir, { recursive: true });
  const logPath = `${dataDir}.log`;
  const ports = {
    api: PORTS.api + portOffset,
    cluster: PORTS.cluster + portOffset,
    temporal: PORTS.temporal + portOffset,
    temporalUi: PORTS.temporalUi + portOffset,
    consul: PORTS.consul + portOffset,
  };
  const command = [
    process.execPath,
    join(projectRoot(), 'dist', 'workers', 'containeros.js'),
    'up',
    ...(options.password === undefined ? ['--dev'] : ['--password', options.password]),
    ...['--data-dir', dataDir],
    ...['--api-port', String(ports.api)],
    ...['--cluster-port', String(ports.cluster)],
    ...['--temporal-port', String(ports.temporal)],
    ...['--temporal-ui-port', String(ports.temporalUi)],
    ...['--consul-port', String(ports.consul)],
    ...(options.flags ?? []),
  ];
  const env = { ...cleanEnvironment(), ...engineVariables(), ...options.env };
  const password = options.password ?? 'dev';
  let wrapper: ChildProcess | undefined;
  let startedInMs = 0;

  const api: Instance['api'] = async (method, path, { body, password: given = password, ...rest } = {}) =>
    httpRequest(`http://${engine.loopbackAddress}:${ports.api}${path}`, {
      ...rest,
      method,
      headers: {
        host: `127.0.0.1:${ports.api}`,
        ...(given === null ? {} : { authorization: `Bearer ${given}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...rest.headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });

  const start = async (): Promise<void> => {
    if (isRunning()) return;
    const startedAt = performance.now();
    const log = openSync(logPath, 'a');
    const child = engine.spawn(command, { cwd: '/', env, detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    child.unref();
    wrapper = child;
    await eventually(
      async () => {
        if (hasEnded(child)) throw new Hopeless(`it ended with ${child.exitCode}:\n${tail(logPath)}`);
        const answer = await api('GET', '/readyz', { timeoutMs: 2_000 });
        if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}\n${tail(logPath)}`);
      },
      { timeoutMs: READY_TIMEOUT_MS, intervalMs: 25, describe: 'ContainerOS is ready' },
    );
    startedInMs = Math.round(performance.now() - startedAt);
  };

  const pid = (role: Role): number => {
    const path = join(dataDir, 'run', `${role}.pid`);
    const inside = existsSync(path) ? Number(readFileSync(path, 'utf8').split(' ')[0]) : NaN;
    const outside = engine.hostPid(inside);
    if (outside === undefined) throw new Error(`${role} does not run`);
    return outside;
  };

  const isRunning = (): boolean => {
    try {
      return pid('supervisor') > 0;
    } catch {
      return false;
    }
  };

  const stop = async (): Promise<void> => {
    const child = wrapper;
    if (child === undefined || hasEnded(child)) return;
    process.kill(childOf(child) ?? pid('supervisor'), 'SIGINT');
    await eventually(
      () => {
        child.kill('SIGCONT'); // nsenter stops itself when its child is frozen
        if (!hasEnded(child)) throw new Error(tail(logPath));
      },
      { timeoutMs: STOP_TIMEOUT_MS, intervalMs: 10, describe: 'ContainerOS ends after Ctrl-C' },
    );
  };

  const pidsOf = (): readonly number[] =>
    (['supervisor', ...ROLES] as const).flatMap((role) => {
      try {
        return [pid(role)];
      } catch {
        return [];
      }
    });

  const killAll = async (): Promise<void> => {
    // The supervisor first, which would start the others again.
    for (const each of pidsOf()) killIfThere(each);
    await eventually(
      () => {
        const left = pidsOf();
        for (const each of left) killIfThere(each); // started just now
        if (left.length > 0) throw new Error(`these live: ${left.join(' ')}`);
      },
      { intervalMs: 5, describe: 'everything is killed' },
    );
  };

  const instance: Instance = {
    engine,
    dataDir,
    apiPort: ports.api,
    consulPort: ports.consul,
    temporalUiPort: ports.temporalUi,
    temporalAddress: `${engine.loopbackAddress}:${ports.temporal}`,
    get startedInMs() {
      return startedInMs;
    },
    outside: (address) =>
      address.replace(/^(127\.0\.0\.1|localhost|0\.0\.0\.0)(?=:|$)/, engine.loopbackAddress),
    api,
    consul: async <T>(path: string) => {
      const answer = await httpRequest(`http://${engine.loopbackAddress}:${ports.consul}${path}`);
      if (answer.status !== 200) throw new Error(`Consul: ${answer.status} ${answer.text}`);
      return answer.body as T;
    },
    clusterId: () => readFileSync(join(dataDir, 'cluster-id'), 'utf8').trim(),
    pid,
    kill: (role, signal = 'SIGKILL') => {
      process.kill(pid(role), signal);
    },
    killAll,
    isRunning,
    freeze: (role) => freezeProcess(pid(role)),
    thaw: (role) => {
      process.kill(pid(role), 'SIGCONT');
      wrapper?.kill('SIGCONT');
    },
    stop,
    start,
    log: () => readFileSync(logPath, 'utf8'),
    dispose: async () => {
      try {
        await stop();
      } catch (error) {
        await killAll();
        throw error;
      } finally {
        rmSync(dataDir, { recursive: true, force: true });
      }
    },
  };
  try {
    await start();
  } catch (error) {
    await killAll();
    throw error;
  }
  return instance;
}

/** What a user's shell would give, without what the test runner added. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG } = process.env;
  return { PATH, HOME, LANG };
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/** A role may end by itself at that moment, because its supervisor is gone. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The only child of nsenter: the supervisor. */
function childOf(wrapper: ChildProcess): number | undefined {
  const children = readFileSync(`/proc/${wrapper.pid}/task/${wrapper.pid}/children`, 'utf8').trim();
  return children === '' ? undefined : Number(children);
}

function tail(path: string): string {
  return readFileSync(path, 'utf8').split('\n').slice(-25).join('\n');
}
