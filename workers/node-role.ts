/** The node process: the worker that runs what this machine is asked to run. */

import type { Logger } from 'pino';

import { consulAddressOf, temporalAddressOf, type Config } from './config';
import { openInstallation } from './installation';
import { startNodeWorker } from './node/start-node-worker';
import { endWithSupervisor, tellSupervisor } from './role';

/** The API as this machine reaches it, whatever address it listens on. */
const localApiUrl = ({ apiHost, apiPort }: Config): string => {
  const host = apiHost === '0.0.0.0' || apiHost === '::' ? '127.0.0.1' : apiHost;
  return `http://${host.includes(':') ? `[${host}]` : host}:${apiPort}`;
};

export const runNodeRole = (config: Config, logger: Logger): void => {
  const installation = openInstallation(config);
  const worker = startNodeWorker(
    {
      nodeId: config.nodeId,
      clusterId: installation.clusterId,
      dockerSocketPath: config.dockerSocket,
      consulUrl: consulAddressOf(config),
      consulToken: config.consulToken,
      temporalAddress: temporalAddressOf(config),
      namespace: config.temporalNamespace,
      advertiseAddress: config.advertiseAddress,
      hostPortRange: config.hostPorts,
      apiUrl: localApiUrl(config),
      internalToken: installation.internalToken,
      dataDir: config.dataDir,
      labels: config.nodeLabels,
    },
    logger,
    (ready, reason) => tellSupervisor({ kind: 'status', ready, ...(reason === undefined ? {} : { reason }) }),
  );
  endWithSupervisor(logger, () => worker.stop());
};
