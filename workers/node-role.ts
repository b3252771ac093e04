/** The node process: the worker that runs what this machine is asked to run. */

import type { Logger } from 'pino';

import { reportCoordinate } from './cluster/gossip-timing';
import { openSealer } from './cluster/cluster-key';
import { consulOf } from './cluster/head-files';
import { keepCertificate } from './cluster/keep-certificate';
import { readCredentials, readMembership, type Membership } from './cluster/membership';
import { consulAddressOf, temporalAddressOf, type Config } from './config';
import { caddySettings, ingressConfigFile } from './ingress-files';
import { openInstallation } from './installation';
import { localApiUrl } from './local-api';
import type { NodeConfig } from './node/node-config';
import { startNodeWorker } from './node/start-node-worker';
import { endWithSupervisor, tellSupervisor } from './role';
import { reservedPorts, reservedPortsOfMember } from './up/ports';

type Connections = Pick<
  NodeConfig,
  | 'nodeId'
  | 'clusterId'
  | 'consulToken'
  | 'temporalAddress'
  | 'namespace'
  | 'apiUrl'
  | 'internalToken'
  | 'credentials'
>;

/** On the head node. */
const atHome = (config: Config): Connections => {
  const { clusterId, internalToken } = openInstallation(config);
  return {
    nodeId: config.nodeId,
    clusterId,
    consulToken: consulOf(config).token,
    temporalAddress: temporalAddressOf(config),
    namespace: config.temporalNamespace,
    apiUrl: localApiUrl(config),
    internalToken,
  };
};

/** On a machine that has joined. */
const asMember = (config: Config, membership: Membership): Connections => ({
  nodeId: membership.nodeId,
  clusterId: membership.clusterId,
  consulToken: membership.consul.token,
  temporalAddress: membership.clusterAddress,
  namespace: membership.temporalNamespace,
  apiUrl: `https://${membership.clusterAddress}`,
  credentials: () => readCredentials(config),
});

const ingressOf = (config: Config, membership: Membership | undefined): Pick<NodeConfig, 'ingress'> => {
  const { ingress, httpPort } = config;
  if (!ingress || httpPort === undefined) return {};
  return {
    ingress: {
      settings: caddySettings({ ...config, httpPort }),
      configFile: ingressConfigFile(config),
      openSealer: (how) => openSealer(config, membership, how),
      reservedPorts: membership === undefined ? reservedPorts(config) : reservedPortsOfMember(config),
      onPublicPorts: (isWanted) => tellSupervisor({ kind: 'forwarder', isWanted }),
    },
  };
};

export const runNodeRole = (config: Config, logger: Logger): void => {
  const membership = readMembership(config);
  const worker = startNodeWorker(
    {
      ...(membership === undefined ? atHome(config) : asMember(config, membership)),
      dockerSocketPath: config.dockerSocket,
      consulUrl: consulAddressOf(config),
      advertiseAddress: config.advertiseAddress,
      hostPortRange: config.hostPorts,
      dataDir: config.dataDir,
      labels: config.nodeLabels,
      ...ingressOf(config, membership),
    },
    logger,
    (ready, reason) => tellSupervisor({ kind: 'status', ready, ...(reason === undefined ? {} : { reason }) }),
    (words) => tellSupervisor({ kind: 'refused', words }),
  );
  if (membership === undefined) return endWithSupervisor(logger, () => worker.stop());
  const certificate = keepCertificate(config, membership, logger, () => worker.renew());
  const coordinate = reportCoordinate(config, membership, logger, (timing) =>
    tellSupervisor({ kind: 'gossip', timing }),
  );
  return endWithSupervisor(logger, async () => {
    certificate.stop();
    coordinate.stop();
    await worker.stop();
  });
};
