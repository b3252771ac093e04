// ContainerOS's ingress: the real keeper and the real Caddy, which lead where documents in a real Consul say.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConsulClient, type ConsulClient } from '../../adapters/consul/consul-client';
import { createDocumentWriter } from '../../adapters/consul/document-writer';
import type { DocumentWriter } from '../../adapters/document-writer';
import { openCertificateFiles } from '../../adapters/ingress/certificate-files';
import { hostnameKvKey, replicaKvKey } from '../../contracts/kv';
import type { ObservedReplica } from '../../domain/model';
import { createConsulServer, firstMember, freePorts } from '../../test/support/consul';
import { httpRequest } from '../../test/support/http';
import { buildServing, ingressConfigOf, spawnCaddy } from '../../test/support/ingress-keeper';
import { eventually } from '../../test/support/wait';
import { caddySettings, writeDoor } from '../../workers/ingress-files';
import { openListeningSockets } from '../../workers/up/listening-sockets';
import { chooseDoorPort, ingressPortNeeds } from '../../workers/up/ports';
import type { KeeperCommand, KeeperMessage } from './keeper-process';
import { watchProcess, type Running } from './programs';
import type { ProxiedRoute } from './proxies';

const SETTLE_TIMEOUT_MS = 120_000;

export interface OwnIngress {
  readonly port: number;
  /** When it was given certificates. */
  readonly httpsPort: number | undefined;
  readonly consul: ConsulClient;
  readonly documents: DocumentWriter;
  /** Of the node that the ingress is on. */
  readonly nodeId: string;
  readonly caddy: () => Running;
  readonly keeper: () => Running;
  /** How many new configurations Caddy has taken from this keeper. */
  loads(): number;
  claim(hostname: string): Promise<unknown>;
  /** Publishes a replica, and with it the hostname's microservice. @returns Consul's index of the write */
  publish(
    id: string,
    hostname: string,
    endpoint: string,
    more?: Partial<ObservedReplica>,
  ): Promise<{ readonly index: number }>;
  /** Hostnames and replicas of these, until each of them is led to. */
  serve(routes: readonly ProxiedRoute[]): Promise<void>;
  /** What requests read goes into a new configuration, as it does by itself when all has stayed for a while. */
  settle(): Promise<void>;
  /** Keeper and Caddy start again, and have what they had. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export const answersAt = async (port: number, hostname: string): Promise<boolean> =>
  (await httpRequest(`http://127.0.0.1:${port}/`, { headers: { host: hostname } })).status === 200;

export const answersByTls = (port: number, hostname: string): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, servername: hostname, headers: { host: hostname } };
    get({ ...options, rejectUnauthorized: false, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).on('error', reject);
  });

/** @param certificates by their hostnames: chain and key. Left out: plain HTTP only */
export const startOwnIngress = async (certificates?: ReadonlyMap<string, string>): Promise<OwnIngress> => {
  const dataDir = mkdtempSync(join(tmpdir(), 'containeros-bench-'));
  const server = await createConsulServer();
  const end = () => server.signal('SIGKILL');
  process.once('exit', end);
  server.start();
  const consul = createConsulClient({ address: server.address });
  const documents = createDocumentWriter(consul);
  const nodeId = await firstMember(consul);
  const [port = 0, another = 0] = await freePorts(2);
  const httpsPort = certificates === undefined ? undefined : another;
  const config = ingressConfigOf(dataDir, port, httpsPort);
  if (certificates !== undefined) {
    writeDoor(config, await chooseDoorPort());
    openCertificateFiles(caddySettings(config).directory).writeCertificates('exact', certificates);
  }
  const sockets = await openListeningSockets(ingressPortNeeds(config));
  let caddy: Running | undefined;
  let keeper: Running | undefined;
  let keeperProcess: ChildProcess | undefined;
  let told: KeeperMessage = { trouble: 'not started', loads: 0 };

  const startBoth = async (): Promise<void> => {
    caddy = watchProcess(spawnCaddy(config, sockets));
    told = { trouble: 'not started', loads: 0 };
    const child: ChildProcess = fork(join(__dirname, 'keeper-process.js'), [
      ...[
        server.address,
        nodeId,
        dataDir,
        String(port),
        ...(httpsPort === undefined ? [] : [String(httpsPort)]),
      ],
    ]);
    child.on('message', (message) => (told = message as KeeperMessage));
    keeper = watchProcess(child);
    keeperProcess = child;
    await once(child, 'message');
    await eventually(
      () => {
        if (told.trouble !== undefined) throw new Error(told.trouble);
      },
      { timeoutMs: SETTLE_TIMEOUT_MS, describe: 'the ingress follows' },
    );
  };
  const command = (text: KeeperCommand) => keeperProcess?.send(text);
  const stopBoth = async (): Promise<void> => {
    await keeper?.stop();
    await caddy?.stop();
  };
  const isThere = (running: Running | undefined): Running => {
    if (running === undefined) throw new Error('it has not been started');
    return running;
  };

  const ingress: OwnIngress = {
    port,
    httpsPort,
    consul,
    documents,
    nodeId,
    caddy: () => isThere(caddy),
    keeper: () => isThere(keeper),
    loads: () => told.loads,
    claim: (hostname) =>
      documents.put(hostnameKvKey(hostname), { project: 'default', name: hostname.split('.')[0] }),
    publish: (id, hostname, endpoint, more) => {
      const [address = '', backend = ''] = endpoint.split(':');
      const replica = buildServing(id, nodeId, hostname, { port: Number(backend), address }, more);
      return documents.put(replicaKvKey(replica, id), replica);
    },
    serve: async (routes) => {
      await Promise.all(
        routes.flatMap(({ hostname, endpoints }) => [
          ingress.claim(hostname),
          ...endpoints.map((endpoint, index) =>
            ingress.publish(`${hostname.split('.')[0] ?? ''}-${index}`, hostname, endpoint),
          ),
        ]),
      );
      for (const hostname of [routes[0], routes.at(-1)].flatMap((route) => route?.hostname ?? [])) {
        await eventually(
          async () => {
            if (!(await answersAt(port, hostname))) throw new Error('it does not answer');
          },
          { timeoutMs: SETTLE_TIMEOUT_MS, describe: `${hostname} answers` },
        );
      }
    },
    settle: async () => {
      const before = told.loads;
      // In a spare place: so there is something to settle, whatever else has been there for how long.
      await ingress.claim('settling.localhost');
      command('settle');
      await eventually(() => told.loads > before || Promise.reject(new Error('it has not')), {
        timeoutMs: SETTLE_TIMEOUT_MS,
        describe: 'the ingress settles',
      });
      command('stay');
    },
    restart: async () => {
      await stopBoth();
      await startBoth();
    },
    stop: async () => {
      await stopBoth();
      sockets.close();
      consul.close();
      await server.kill();
      process.off('exit', end);
      server.dispose();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
  await startBoth();
  return ingress;
};
