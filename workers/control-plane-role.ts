/** The control-plane process. */

import type { Logger } from 'pino';

import type { Config } from './config';
import { startControlPlane } from './control-plane';
import { endWithSupervisor, tellSupervisor } from './role';

export const runControlPlaneRole = (config: Config, logger: Logger): void => {
  const controlPlane = startControlPlane(config, logger, (ready, reason) =>
    tellSupervisor({ kind: 'status', ready, ...(reason === undefined ? {} : { reason }) }),
  );
  endWithSupervisor(logger, () => controlPlane.stop());
};
