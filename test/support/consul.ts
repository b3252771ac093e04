// One server of Consul that keeps its data in a folder, for tests of what talks to Consul and to nothing else.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { engineVariables } from './programs';

/** Below the range from which the kernel takes ports for connections, one of which would keep Consul from coming back. */
const FIRST_PORT = 15_000;
const PORT_COUNT = 15_000;

const isFree = async (port: number): Promise<boolean> => {
  const server = createServer();
  const outcome = new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.once('listening', () => resolve(true));
  });
  server.listen(port, '127.0.0.1');
  const free = await outcome;
  if (free) await new Promise((resolve) => server.close(resolve));
  return free;
};

const freePorts = async (count: number): Promise<number[]> => {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = FIRST_PORT + randomInt(PORT_COUNT);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
};

export interface ConsulServer {
  readonly address: string;
  start(): void;
  signal(name: NodeJS.Signals): void;
  kill(): Promise<void>;
  /** Removes its data; it must not run. */
  forgetEverything(): void;
  /** Removes everything of it; it must not run. */
  dispose(): void;
}

/** @param hcl further settings */
export const createConsulServer = async (hcl = ''): Promise<ConsulServer> => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-consul-'));
  const [http = 0, server = 0, lan = 0] = await freePorts(3);
  let child: ChildProcess | undefined;
  return {
    address: `http://127.0.0.1:${http}`,
    start: () => {
      child = spawn(
        engineVariables()['CONTAINEROS_CONSUL_BIN'] ?? 'consul',
        [
          'agent',
          '-server',
          '-bootstrap',
          // Elections in a fraction of the usual time: this server is alone.
          ...['-hcl', `performance { raft_multiplier = 1 }\n${hcl}`],
          ...[
            '-bind',
            '127.0.0.1',
            '-client',
            '127.0.0.1',
            '-data-dir',
            join(folder, 'data'),
            '-log-level',
            'error',
          ],
          ...['-http-port', String(http), '-server-port', String(server), '-serf-lan-port', String(lan)],
          ...['-serf-wan-port', '-1', '-dns-port', '-1', '-grpc-port', '-1', '-grpc-tls-port', '-1'],
        ],
        { stdio: 'ignore' },
      );
    },
    signal: (name) => {
      child?.kill(name);
    },
    kill: async () => {
      const ended = child;
      child = undefined;
      if (ended === undefined || ended.exitCode !== null) return;
      ended.kill('SIGKILL');
      await once(ended, 'exit');
    },
    forgetEverything: () => rmSync(join(folder, 'data'), { recursive: true, force: true }),
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
};
