// Agents of Consul that keep their data in a folder, with ACLs or without: servers, and clients that join them.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConsulClient, type ConsulClient } from '../../adapters/consul/consul-client';
import { createDocumentWriter } from '../../adapters/consul/document-writer';
import { readMembers } from '../../adapters/consul/watch-members';
import type { DocumentWriter } from '../../adapters/document-writer';
import { engineVariables } from './programs';
import { eventually } from './wait';

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

/** Of the loopback, for servers. */
export const freePorts = async (count: number): Promise<number[]> => {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = FIRST_PORT + randomInt(PORT_COUNT);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
};

const HOST = '127.0.0.1';

const spawnConsul = (args: readonly string[]): ChildProcess =>
  spawn(
    engineVariables()['CONTAINEROS_CONSUL_BIN'] ?? 'consul',
    [
      ...['agent', '-bind', HOST, '-client', HOST, '-log-level', 'error'],
      ...['-serf-wan-port', '-1', '-dns-port', '-1', '-grpc-port', '-1', '-grpc-tls-port', '-1'],
      ...args,
    ],
    { stdio: 'ignore' },
  );

const killed = async (child: ChildProcess | undefined): Promise<void> => {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
};

export interface ConsulServer {
  readonly address: string;
  /** Where other agents find it. */
  readonly gossipAddress: string;
  start(): void;
  signal(name: NodeJS.Signals): void;
  kill(): Promise<void>;
  /** Removes its data; it must not run. */
  forgetEverything(): void;
  /** Removes everything of it; it must not run. */
  dispose(): void;
}

/** @param argumentsOf what makes it a server or a client, given its server port */
const createAgent = async (argumentsOf: (serverPort: number) => readonly string[]): Promise<ConsulServer> => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-consul-'));
  const [http = 0, server = 0, lan = 0] = await freePorts(3);
  let child: ChildProcess | undefined;
  return {
    address: `http://${HOST}:${http}`,
    gossipAddress: `${HOST}:${lan}`,
    start: () => {
      child = spawnConsul([
        ...['-data-dir', join(folder, 'data'), ...argumentsOf(server)],
        ...['-http-port', String(http), '-serf-lan-port', String(lan)],
      ]);
    },
    signal: (name) => {
      child?.kill(name);
    },
    kill: async () => {
      const ended = child;
      child = undefined;
      await killed(ended);
    },
    forgetEverything: () => rmSync(join(folder, 'data'), { recursive: true, force: true }),
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
};

/** @param hcl further settings */
export const createConsulServer = (hcl = ''): Promise<ConsulServer> =>
  createAgent((serverPort) => [
    '-server',
    '-bootstrap',
    // Elections in a fraction of the usual time: this server is alone.
    ...['-hcl', `performance { raft_multiplier = 1 }\n${hcl}`],
    ...['-server-port', String(serverPort)],
  ]);

/** A client of a server, under a name. @param hcl further settings */
export const createConsulMember = (server: ConsulServer, nodeId: string, hcl = ''): Promise<ConsulServer> =>
  createAgent(() => [
    '-node',
    nodeId,
    '-retry-join',
    server.gossipAddress,
    '-hcl',
    `retry_interval = "1s"\n${hcl}`,
  ]);

/** Waits for a leader. @returns the name of the node that is there first */
export const firstMember = (client: ConsulClient): Promise<string> =>
  eventually(
    async () => {
      const [first] = (await readMembers(client)).keys();
      if (first === undefined) throw new Error('there is no member yet');
      return first;
    },
    { describe: 'Consul has a leader' },
  );

/** A server without ACLs, alone, and what works on it. */
export interface RunningConsul {
  readonly server: ConsulServer;
  readonly client: ConsulClient;
  readonly documents: DocumentWriter;
  /** The server's own node: the only one. */
  readonly nodeId: string;
  /** Ends everything of it. */
  close(): Promise<void>;
}

/** It has a leader when it is there. */
export const startConsul = async (): Promise<RunningConsul> => {
  const server = await createConsulServer();
  const client = createConsulClient({ address: server.address });
  const close = async (): Promise<void> => {
    client.close();
    await server.kill();
    server.dispose();
  };
  server.start();
  try {
    const nodeId = await firstMember(client);
    return { server, client, documents: createDocumentWriter(client), nodeId, close };
  } catch (error) {
    await close();
    throw error;
  }
};

export const MANAGEMENT_TOKEN = '11111111-2222-3333-4444-555555555555';
/** The server's own; it has no rights until they are given to it. */
export const AGENT_TOKEN = '22222222-3333-4444-5555-666666666666';

export interface NodeAgent {
  /** With the token of its node. */
  readonly client: ConsulClient;
  kill(): Promise<void>;
  /** Kills it and starts it again: it compares what it knows with the catalogue. */
  restart(): Promise<void>;
}

export interface GuardedConsul {
  readonly server: ConsulServer;
  readonly management: ConsulClient;
  clientOf(token: string): ConsulClient;
  /** Makes a policy of this name and a token of it, or leaves them as they are. */
  grant(name: string, token: string, rules: string): Promise<void>;
  /** Starts the agent of a node, which is given nothing but this token; it joins in the background. */
  startAgent(nodeName: string, token: string): Promise<NodeAgent>;
  /** Ends everything of it. */
  close(): Promise<void>;
}

/** @returns a server that denies everything by default, and answers whoever manages */
export const startGuardedConsul = async (nodeName: string): Promise<GuardedConsul> => {
  const server = await createConsulServer(`
    node_name = "${nodeName}"
    acl {
      enabled = true
      default_policy = "deny"
      tokens { initial_management = "${MANAGEMENT_TOKEN}", agent = "${AGENT_TOKEN}" }
    }`);
  const clients: ConsulClient[] = [];
  const agents: { child: ChildProcess; readonly folder: string }[] = [];
  const clientAt = (address: string, token: string): ConsulClient => {
    const client = createConsulClient({ address, token });
    clients.push(client);
    return client;
  };
  server.start();
  const management = clientAt(server.address, MANAGEMENT_TOKEN);
  await eventually(() => management.request({ path: '/acl/token/self' }), { timeoutMs: 30_000 });
  return {
    server,
    management,
    clientOf: (token) => clientAt(server.address, token),
    grant: async (name, token, rules) => {
      await management.request({ method: 'PUT', path: '/acl/policy', body: { Name: name, Rules: rules } });
      await management.request({
        method: 'PUT',
        path: '/acl/token',
        body: { SecretID: token, Policies: [{ Name: name }] },
      });
    },
    startAgent: async (name, token) => {
      const folder = mkdtempSync(join(tmpdir(), 'containeros-consul-agent-'));
      const [http = 0, rpc = 0, lan = 0] = await freePorts(3);
      const hcl = `acl {
        enabled = true
        default_policy = "deny"
        tokens { agent = "${token}", default = "${token}" }
      }`;
      const start = () =>
        spawnConsul([
          ...['-node', name, '-data-dir', folder, '-hcl', hcl],
          ...['-retry-join', server.gossipAddress, '-retry-interval', '1s'],
          ...['-http-port', String(http), '-server-port', String(rpc), '-serf-lan-port', String(lan)],
        ]);
      const agent = { child: start(), folder };
      agents.push(agent);
      return {
        client: clientAt(`http://${HOST}:${http}`, token),
        kill: () => killed(agent.child),
        restart: async () => {
          await killed(agent.child);
          agent.child = start();
        },
      };
    },
    close: async () => {
      for (const client of clients) client.close();
      for (const { child, folder } of agents) {
        await killed(child);
        rmSync(folder, { recursive: true, force: true });
      }
      await server.kill();
      server.dispose();
    },
  };
};
