// The ingress of one node for tests of routes with options, and what microservices publish for it.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import type { TrustedProxies } from '../../adapters/ingress/route-handlers';
import { hostnameKvKey, replicaKvKey, routesKvKey } from '../../contracts/kv';
import { claimsOfRoute, type PortRoute } from '../../domain/ingress/route-options';
import type { MicroserviceKey, ObservedReplica } from '../../domain/model';
import { caddySettings } from '../../workers/ingress-files';
import { openListeningSockets } from '../../workers/up/listening-sockets';
import { ingressPortNeeds } from '../../workers/up/ports';
import { buildReplica } from './builders';
import { freePorts, type RunningConsul } from './consul';
import { countLoads, createKeeper, ingressConfigOf, spawnCaddy, type CountedLoads } from './ingress-keeper';
import { eventually } from './wait';

export interface IngressNode {
  readonly id: string;
  readonly httpPort: number;
  /** Where the ingress has its files. */
  readonly directory: string;
  readonly caddyPid: number;
  readonly stop: () => Promise<void>;
  readonly loads: CountedLoads;
}

/** A keeper with a Caddy of its own; several with one Consul stand for several nodes. */
export const startIngressNode = async (
  consul: RunningConsul,
  trustedProxies?: TrustedProxies,
  {
    changeConfig,
    nodeId = consul.nodeId,
    ...more
  }: {
    /** Left out: the node of Consul's server. */
    readonly nodeId?: string;
    readonly acceptedConnections?: () => number | undefined;
    readonly settleAfterMs?: number;
    /** Made to each configuration, so that a test need not wait for times that are in it. */
    readonly changeConfig?: (config: string) => string;
  } = {},
): Promise<IngressNode> => {
  const dataDir = mkdtempSync(join(tmpdir(), 'containeros-routes-'));
  const [httpPort = 0] = await freePorts(1);
  const config = ingressConfigOf(dataDir, httpPort);
  const settings = { ...caddySettings(config), ...(trustedProxies === undefined ? {} : { trustedProxies }) };
  const sockets = await openListeningSockets(ingressPortNeeds(config));
  const caddy = spawnCaddy(config, sockets);
  let trouble: string | undefined = 'not started';
  const loads = countLoads(changeConfig);
  const keeper = createKeeper({
    config,
    settings,
    nodeId,
    consul: consul.client,
    documents: consul.documents,
    throughAdmin: loads.through,
    onState: (reason) => (trouble = reason),
    logger: pino({ level: 'silent' }),
    ...more,
  });
  keeper.start();
  await eventually(() => expect(trouble).toBeUndefined());
  return {
    id: dataDir,
    httpPort,
    directory: settings.directory,
    caddyPid: caddy.pid ?? 0,
    loads,
    stop: async () => {
      keeper.stop();
      const gone = once(caddy, 'exit');
      caddy.kill('SIGKILL');
      await gone;
      sockets.close();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
};

export interface PublishedRoutes {
  /** One container, one port. */
  readonly replica: (
    id: string,
    name: string,
    port: number,
    more?: Partial<ObservedReplica>,
  ) => ObservedReplica;
  readonly publish: (replica: ObservedReplica) => Promise<unknown>;
  /** As an entity claims and publishes them, for a release of the replicas here. */
  readonly publishRoutes: (
    name: string,
    releases: Readonly<Record<number, readonly Partial<PortRoute>[]>>,
  ) => Promise<void>;
  /** A microservice with one replica. */
  readonly serve: (name: string, port: number, ...routes: readonly Partial<PortRoute>[]) => Promise<void>;
}

export const keyOf = (name: string): MicroserviceKey => ({ project: 'default', name });

/** What microservices of the default project have in Consul; their hostnames are NAME.localhost unless said otherwise. */
export const routesIn = ({ nodeId, documents }: RunningConsul): PublishedRoutes => {
  const replica = (id: string, name: string, port: number, more: Partial<ObservedReplica> = {}) =>
    buildReplica(id, nodeId, {
      name,
      ports: [
        {
          container: 'main',
          port: 80,
          protocol: 'tcp',
          address: '127.0.0.1',
          hostPort: port,
          serviceId: `${id}-main-80`,
          hostnames: [],
        },
      ],
      ...more,
    });

  const publish = (one: ObservedReplica) => documents.put(replicaKvKey(one, one.id), one);

  const publishRoutes = async (
    name: string,
    releases: Readonly<Record<number, readonly Partial<PortRoute>[]>>,
  ): Promise<void> => {
    const full = Object.entries(releases).map(([number, routes]) => ({
      number: Number(number),
      createdAtMs: 0,
      routes: routes.map((route): PortRoute => ({
        container: 'main',
        port: 80,
        hostnames: [`${name}.localhost`],
        ...route,
      })),
    }));
    await documents.put(routesKvKey(keyOf(name)), { ...keyOf(name), releases: full });
    for (const claim of full.flatMap(({ routes }) => routes.flatMap(claimsOfRoute))) {
      await documents.put(hostnameKvKey(claim), keyOf(name));
    }
  };

  const serve = async (
    name: string,
    port: number,
    ...routes: readonly Partial<PortRoute>[]
  ): Promise<void> => {
    await publishRoutes(name, { 1: routes });
    await publish(replica(`${name}-1`, name, port, { release: 1, releasedAtMs: 0 }));
  };
  return { replica, publish, publishRoutes, serve };
};
