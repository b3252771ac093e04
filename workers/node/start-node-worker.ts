/**
 * The node worker: a node that takes its work from Temporal.
 *
 * Invariant: it takes no work before it is told to, and says truly whether it does.
 */

import type { NativeConnectionOptions } from '@temporalio/worker';
import type { Logger } from 'pino';

import type { NodeCredentials } from '../../adapters/cluster-port/port-client';
import { SERVER_NAME } from '../../contracts/authority';
import { nodeQueue } from '../../contracts/queues';
import { installTemporalRuntime, startTemporalWorker } from '../temporal-worker';
import { createNode, type NodeState } from './node';
import type { NodeConfig } from './node-config';

/** So that a cancellation arrives soon: the server's answer to a heartbeat carries it. */
const HEARTBEAT_THROTTLE_MS = 500;
/** A second poller takes the next task while the first one's is being handed over. */
const POLLERS = 2;

export interface NodeWorker {
  /** Connects anew, with the credentials that hold now. */
  renew(): void;
  /** The users' containers go on. */
  stop(): Promise<void>;
}

const mutualTls = (credentials: () => NodeCredentials) => (): NativeConnectionOptions => {
  const { authorityPem, certificatePem, keyPem } = credentials();
  return {
    tls: {
      serverNameOverride: SERVER_NAME,
      serverRootCACertificate: Buffer.from(authorityPem),
      clientCertPair: { crt: Buffer.from(certificatePem), key: Buffer.from(keyPem) },
    },
    // The cluster port reads what it lets through; finding that out takes the SDK a call.
    grpcCompression: { codec: 'none' },
  };
};

/** @returns what keeps the node from taking work, for people; undefined: nothing */
export const whyNotReady = (
  { nodeId, dockerSocketPath }: Pick<NodeConfig, 'nodeId' | 'dockerSocketPath'>,
  { hasEngine, isKnown, ingressTrouble, agentNodeName = nodeId }: NodeState,
  isPolling: boolean,
): string | undefined => {
  // Membership goes by the agent's name: under another one the node would count as lost.
  if (agentNodeName !== nodeId) {
    return `the Consul agent's node is called ${agentNodeName} and this one ${nodeId}: start it with --node-name ${agentNodeName}, or give the agent this name`;
  }
  if (!hasEngine) return `the Docker Engine at ${dockerSocketPath} does not answer`;
  if (!isKnown) return 'the node is not in Consul yet';
  if (ingressTrouble !== undefined) return `the ingress does not follow: ${ingressTrouble}`;
  return isPolling ? undefined : 'the node takes no work from Temporal';
};

/**
 * @param onReady called with every change, and why it is not ready
 * @param onRefused called when the cluster will have nothing to do with this node, in words
 */
export const startNodeWorker = (
  config: NodeConfig,
  logger: Logger,
  onReady: (ready: boolean, reason?: string) => void = () => undefined,
  onRefused: (words: string) => void = () => undefined,
): NodeWorker => {
  let isPolling = false;
  let state: NodeState = { hasEngine: false, isKnown: false };
  const tell = (): void => {
    const reason = whyNotReady(config, state, isPolling);
    if (reason === undefined) onReady(true);
    else onReady(false, reason);
  };
  const node = createNode(config, logger, (now) => {
    if (now.refusal !== undefined && now.refusal !== state.refusal) onRefused(now.refusal);
    state = now;
    tell();
  });
  installTemporalRuntime(logger);
  node.start();
  const worker = startTemporalWorker({
    address: config.temporalAddress,
    logger,
    ...(config.credentials === undefined ? {} : { connectionOptions: mutualTls(config.credentials) }),
    options: async (connection) => ({
      connection,
      namespace: config.namespace,
      taskQueue: nodeQueue(config.nodeId),
      identity: `node-${config.nodeId}-${process.pid}`,
      activities: { ...node.activities },
      activityTaskPollerBehavior: { type: 'simple-maximum', maximum: POLLERS },
      maxHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
      defaultHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
      shutdownGraceTime: '2s',
    }),
    onPolling: (polling) => {
      isPolling = polling;
      tell();
    },
  });
  return {
    renew: () => worker.renew(),
    stop: async () => {
      await worker.stop();
      node.stop();
      await node.settled();
    },
  };
};
