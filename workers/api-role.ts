/** The API process: a client of Temporal and a reader of Consul, and nothing else. */

import { randomBytes } from 'node:crypto';

import { Client, Connection } from '@temporalio/client';
import type { Logger } from 'pino';
import { Registry, collectDefaultMetrics } from 'prom-client';

import { createConsulClient, kvPath } from '../adapters/consul/consul-client';
import { createKeyValueStore } from '../adapters/consul/kv-store';
import { createMembership } from '../adapters/consul/membership';
import { createKvStore } from '../adapters/consul/watch-kv';
import { readMembers, watchMembers } from '../adapters/consul/watch-members';
import { createApp } from '../api/create-app';
import { createExecLog } from '../api/exec-log';
import { createLeaveNode } from '../api/join/leave-node';
import { createMaintenanceWriter } from '../api/maintenance';
import { createNodeSettingsWriter } from '../api/node-settings';
import { createNodeStreams } from '../api/node-streams';
import { createOperations } from '../api/operations';
import { createReadModel } from '../api/read-model';
import { createNodeRemover } from '../api/remove-node';
import { createRouteConfirmation } from '../api/route-confirmation';
import { startApiServer } from '../api/server';
import { createTemporalChanges } from '../api/temporal-changes';
import { KV_ROOT } from '../contracts/kv';
import type { IngressState } from '../domain/model';

import { apiCertificates } from './cluster/api-certificates';
import { consulOf } from './cluster/head-files';
import { clusterAddressOf, isJoinable, temporalAddressOf, type Config } from './config';
import { CONFIRM_CONFIGURATION_WITHIN_MS, createIngressConfirmation, indexBy } from './ingress-confirmation';
import { openInstallation } from './installation';
import { endWithSupervisor, onRolesStatus, tellSupervisor } from './role';
import { reservedPorts } from './up/ports';
import { version } from './version';

/** How long /readyz waits for Temporal and for Consul to say something. */
const ANSWER_MS = 2_000;
/** The default of 10 wakes an API that has nothing to do a hundred times a second. */
const EVENT_LOOP_SAMPLED_EVERY_MS = 100;

const randomSuffix = () => randomBytes(6).toString('hex');

export const runApiRole = async (config: Config, logger: Logger): Promise<void> => {
  const installation = openInstallation(config);
  const consul = createConsulClient(consulOf(config));
  const kv = createKvStore(consul);
  const store = createKeyValueStore(consulOf(config), (message) => logger.error(message));
  // Lazy: the API starts, and says what is missing, also while Temporal is away.
  const connection = Connection.lazy({ address: temporalAddressOf(config) });
  const client = new Client({ connection, namespace: config.temporalNamespace });
  const readModel = createReadModel({
    kv,
    watchMembers: (handlers) => watchMembers(consul, handlers),
    version: version(),
    log: logger,
    nowMs: Date.now,
  });
  const metrics = new Registry();
  collectDefaultMetrics({ register: metrics, eventLoopMonitoringPrecision: EVENT_LOOP_SAMPLED_EVERY_MS });
  const closing = new AbortController();

  let rolesNotReady: readonly string[] = [];
  onRolesStatus(({ notReady }) => {
    rolesNotReady = notReady;
  });
  const temporalNotReady = async (): Promise<readonly string[]> => {
    try {
      await connection.withDeadline(Date.now() + ANSWER_MS, () =>
        connection.workflowService.getSystemInfo({}),
      );
      return [];
    } catch {
      return [`Temporal at ${temporalAddressOf(config)} does not answer`];
    }
  };

  /** What follows Consul learns of a frozen one only after its wait: here it has to answer now. */
  const consulNotReady = async (): Promise<readonly string[]> => {
    if (readModel.status().staleReason !== undefined) return []; // said already
    try {
      // A single key: it needs a leader, and the right to read, without which lists are silently empty.
      await consul.request({ path: kvPath(KV_ROOT), timeoutMs: ANSWER_MS });
      return [];
    } catch (error) {
      return [(error as Error).message.replace(/\.$/, '')];
    }
  };

  const nodeStreams = createNodeStreams();
  const nodeSettings = createNodeSettingsWriter({ store, randomSuffix, nowMs: Date.now });
  const nodeRemover = createNodeRemover({
    store,
    membership: createMembership(consul),
    headNodeId: config.nodeId,
    randomSuffix,
    nowMs: Date.now,
  });
  const confirmedBy = (indexOf: (state: IngressState) => number) =>
    createIngressConfirmation(
      { kv, readMembers: () => readMembers(consul), logger },
      indexOf,
      CONFIRM_CONFIGURATION_WITHIN_MS,
    );
  // Loaded only where machines can join: it holds the libraries of the authority.
  const head = isJoinable(config)
    ? await (
        await import('./cluster/head-port.js')
      ).startHeadPort(config, installation, {
        consul,
        kv,
        store,
        nodeStreams,
        leave: createLeaveNode({ readModel, nodeSettings, remover: nodeRemover }),
        lostNode: (nodeId) => {
          const node = readModel.node(nodeId);
          return node?.health === 'lost' ? node : undefined;
        },
        onGossipTiming: (timing) => tellSupervisor({ kind: 'gossip', timing }),
        log: logger,
      })
    : undefined;

  const app = createApp({
    config: {
      version: version(),
      password: installation.password,
      internalToken: installation.internalToken,
      allowedHosts: [config.apiHost, config.advertiseAddress, ...config.allowedHosts],
      allowHostAccess: config.allowHostAccess,
      reservedPorts: reservedPorts(config),
      ...(config.temporalAddress === undefined
        ? { webUiUrl: `http://127.0.0.1:${config.temporalUiPort}` }
        : {}),
      temporalNamespace: config.temporalNamespace,
      ...(config.ingress && config.httpPort !== undefined ? { httpPort: config.httpPort } : {}),
      ...(config.ingress && config.httpsPort !== undefined ? { httpsPort: config.httpsPort } : {}),
    },
    readModel,
    operations: createOperations({ kv, readModel, log: logger }),
    changes: createTemporalChanges({ client, log: logger }),
    store,
    nodeStreams,
    execLog: createExecLog({ store, randomSuffix, nowMs: Date.now, log: logger }),
    nodeSettings,
    maintenance: createMaintenanceWriter({
      store,
      confirmed: confirmedBy(({ maintenanceIndex = 0 }) => maintenanceIndex),
      randomSuffix,
      nowMs: Date.now,
    }),
    routesConfirmed: createRouteConfirmation({
      readModel,
      store,
      confirmed: {
        // A node of before this was said never says it.
        hostnames: confirmedBy(indexBy(['hostnames'], ({ hostnamesIndex = Infinity }) => hostnamesIndex)),
        publicPorts: confirmedBy(indexBy(['publicPorts'], ({ hostnamesIndex = Infinity }) => hostnamesIndex)),
        routes: confirmedBy(({ routesIndex = Infinity }) => routesIndex),
      },
      log: logger,
    }),
    nodeRemover,
    certificates: apiCertificates(config, store, client, (message) => logger.error(message)),
    joining: {
      store,
      clusterAddress: head && clusterAddressOf(config),
      authorityFingerprint: head?.authorityFingerprint,
    },
    notReady: async () => [
      ...rolesNotReady,
      ...[head?.notReady()].filter((problem) => problem !== undefined),
      ...(await Promise.all([temporalNotReady(), consulNotReady()])).flat(),
    ],
    log: logger,
    metrics,
    nowMs: Date.now,
    closing: closing.signal,
  });

  const server = await startApiServer(app, { host: config.apiHost, port: config.apiPort });
  tellSupervisor({ kind: 'status', ready: true });
  endWithSupervisor(logger, async () => {
    closing.abort();
    await Promise.all([server.close(), head?.close()]);
    readModel.close();
    store.close();
    consul.close();
    await connection.close();
  });
};
