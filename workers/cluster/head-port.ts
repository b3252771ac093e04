/**
 * Opens the cluster port on the head node, puts it together from its parts, and renews what its servers show.
 *
 * Invariants: the API does not wait for it, as it can be of use without Consul and without nodes; it listens only when
 * it knows who is revoked; a certificate is renewed when a third of its time is left, for the port and for Consul
 * alike.
 */

import type { Logger } from 'pino';

import { allowReadingServices, createNodeAccess, renewNodeRights } from '../../adapters/consul/access';
import type { ConsulClient } from '../../adapters/consul/consul-client';
import { createConsulLeases } from '../../adapters/consul/leases';
import { createRejoin } from '../../adapters/consul/rejoin';
import { writeCoordinate } from '../../adapters/consul/round-trips';
import { createServiceCatalogue } from '../../adapters/consul/service-catalogue';
import { pause } from '../../adapters/pause';
import { createAttemptLimiter } from '../../api/attempt-limiter';
import { startClusterPort, type ClusterPort } from '../../api/cluster-port/cluster-port';
import { createNodeDocuments } from '../../api/cluster-port/node-documents';
import { createNodeLeases } from '../../api/cluster-port/node-leases';
import { createNodeLiveness } from '../../api/cluster-port/node-liveness';
import { createNodeRoutes } from '../../api/cluster-port/node-routes';
import { createRefusals } from '../../api/cluster-port/refusals';
import { createTaskTokens } from '../../api/cluster-port/task-tokens';
import { createTemporalGateway } from '../../api/cluster-port/temporal-gateway';
import { createIdentities, followRevocations } from '../../api/join/identities';
import { createJoinNode } from '../../api/join/join-node';
import { createJoinRoute } from '../../api/join/join-route';
import type { LeavingNode } from '../../api/join/leave-node';
import { createRefusedJoins } from '../../api/join/refused-joins';
import type { NodeStreams } from '../../api/node-streams';
import { JOIN_PATH, type LeaveAnswer, type LeaveRequest } from '../../contracts/join';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { identityKvKey, microserviceKvKey } from '../../contracts/kv';
import type { KvStore } from '../../contracts/kv-store';
import type { GossipTiming } from '../../domain/gossip-profile';
import type { ObservedNode } from '../../domain/model';
import { hostPort } from '../../domain/host-port';
import { consulPorts, temporalAddressOf, type Config } from '../config';
import type { Installation } from '../installation';

import { decideGossipTiming } from './gossip-timing';
import {
  clusterKeyOf,
  gossipKeyOf,
  issueServerCertificate,
  openHeadAuthority,
  openServerCertificate,
  serverReloadMark,
  writeServerCertificate,
} from './head-files';
import { keepRenewed } from './renewal';

export interface HeadPort {
  /** SHA-256 of the authority's certificate, in hex. */
  readonly authorityFingerprint: string;
  /** What keeps it from listening, for people; undefined while it listens. */
  notReady(): string | undefined;
  close(): Promise<void>;
}

const RETRY_MS = 1_000;

/**
 * Opens the authority, and then the port as soon as it can be had.
 *
 * @param deps.consul with the token that manages
 */
export const startHeadPort = async (
  config: Config,
  installation: Installation,
  deps: {
    readonly consul: ConsulClient;
    readonly kv: KvStore;
    readonly store: KeyValueStore;
    readonly nodeStreams: NodeStreams;
    readonly leave: (node: LeavingNode, request: LeaveRequest) => Promise<LeaveAnswer>;
    /** A node that Consul's membership holds for failed; undefined for any other one. */
    readonly lostNode: (nodeId: string) => Pick<ObservedNode, 'id' | 'address'> | undefined;
    /** The Consul agent of this machine is to have this timing of its gossip. */
    readonly onGossipTiming: (timing: GossipTiming) => void;
    readonly log: Logger;
  },
): Promise<HeadPort> => {
  const { consul, kv, store, nodeStreams, log } = deps;
  const { clusterId } = installation;
  const authority = await openHeadAuthority(config, clusterId);
  const revocations = followRevocations(kv, (message) => log.error(message));
  const refusals = createRefusals(store, log);
  const catalogue = createServiceCatalogue(consul);
  const liveness = createNodeLiveness({ catalogue, log });
  const rejoin = createRejoin(consul, log);
  const gossip = decideGossipTiming(config, consul, log, deps.onGossipTiming);
  const temporal = createTemporalGateway({
    address: temporalAddressOf(config),
    namespace: config.temporalNamespace,
    tokens: createTaskTokens(installation.internalToken),
    log,
    onRefused: (nodeId, words) => refusals.tell(nodeId, words),
  });
  const identity = { store, authority, clusterId, nowMs: Date.now };
  const refreshIdentities = () => revocations.refresh();
  const serverAddress = hostPort(config.advertiseAddress, consulPorts(config).serfLan);
  const routes = createNodeRoutes({
    nodeStreams,
    documents: createNodeDocuments({ store, catalogue, liveness, clusterId }),
    leases: createNodeLeases({
      leasesOf: (nodeId) => createConsulLeases(consul, nodeId),
      isMicroservice: async (key) => (await store.get(microserviceKvKey(key))) !== undefined,
    }),
    identities: createIdentities(identity),
    refreshIdentities,
    clusterKey: () => clusterKeyOf(config),
    leave: deps.leave,
    takeCoordinate: async (nodeId, { coordinate }) => {
      if (coordinate !== undefined) await writeCoordinate(consul, nodeId, coordinate);
      return { timing: gossip.timing() };
    },
    refusals,
    log,
  });
  let shown = await openServerCertificate(config, clusterId, authority);
  const open = () =>
    startClusterPort({
      host: config.advertiseAddress,
      port: config.clusterPort,
      credentials: shown,
      authorityPem: authority.certificatePem,
      clusterId,
      isRevoked: (nodeId, serial) => revocations.isRevoked(nodeId, serial),
      onRevocation: (listener) => revocations.onChange(listener),
      open: [JOIN_PATH],
      handleOpen: createJoinRoute({
        join: createJoinNode({
          ...identity,
          headNodeId: config.nodeId,
          limiter: createAttemptLimiter(),
          refusedJoins: createRefusedJoins(),
          onEventLost: (error) => log.warn({ err: error }, 'an event about a machine that joins was lost'),
        }),
        refreshIdentities,
        giveConsulAccess: async (nodeId, identityIndex) => ({
          gossipKey: gossipKeyOf(config),
          serverAddress,
          token: (
            await createNodeAccess(
              consul,
              nodeId,
              'reader',
              async () => (await store.get(identityKvKey(nodeId)))?.index === identityIndex,
            )
          ).secretId,
        }),
        temporalNamespace: config.temporalNamespace,
        clusterKey: () => clusterKeyOf(config),
      }),
      handleNode: async (identity, request, response) => {
        const lost = deps.lostNode(identity.nodeId);
        if (lost !== undefined) rejoin(lost.id, lost.address);
        await routes(identity, request, response);
      },
      temporal,
      log,
    });

  const closing = new AbortController();
  let port: ClusterPort | undefined;
  let problem: string | undefined = 'the cluster port waits for Consul';
  const listen = async (): Promise<void> => {
    await revocations.ready;
    while (!closing.signal.aborted && port === undefined) {
      try {
        port = await open();
        // It may have been renewed meanwhile.
        port.renew(shown);
        problem = undefined;
        liveness.start();
      } catch (error) {
        problem = error instanceof Error ? error.message.replace(/\.$/, '') : String(error);
        log.warn({ err: error }, 'the cluster port cannot be opened; trying again');
        await pause(RETRY_MS, closing.signal);
      }
    }
    if (!closing.signal.aborted) return;
    liveness.stop();
    await port?.close();
  };
  const grantRights = async (): Promise<void> => {
    await revocations.ready;
    while (!closing.signal.aborted) {
      try {
        await allowReadingServices(consul);
        return await renewNodeRights(consul);
      } catch (error) {
        log.debug({ err: error }, 'rights in Consul cannot be brought up to date yet; trying again');
        await pause(RETRY_MS, closing.signal);
      }
    }
  };
  const listening = Promise.all([listen(), grantRights()]);
  listening.catch((error: unknown) => log.error({ err: error }, 'the cluster port failed'));

  const renewing = keepRenewed({
    owner: 'the cluster port and of Consul',
    shown: () => shown.certificatePem,
    renew: async () => {
      const issued = await issueServerCertificate(config, clusterId, authority);
      return () => {
        writeServerCertificate(config, issued);
        shown = issued;
      };
    },
    onRenewed: () => port?.renew(shown),
    reloadAgent: async () => {
      await consul.request({ method: 'PUT', path: '/agent/reload' });
    },
    reloadMark: serverReloadMark(config),
    log,
  });

  return {
    authorityFingerprint: authority.fingerprint,
    notReady: () => problem,
    close: async () => {
      renewing.stop();
      gossip.stop();
      closing.abort();
      liveness.stop();
      revocations.close();
      await port?.close();
      temporal.close();
    },
  };
};
