/** Hostnames that an entity takes over from others, and gives back: one after another with its changes. */

import { getExternalWorkflowHandle, isCancellation, log } from '@temporalio/workflow';

import { SIGNAL, microserviceWorkflowId, type HostnamesTakenSignal } from '../contracts/workflows';

import type { Entity } from './entity';
import { desiredOf, hostnamesOf } from './entity-state';
import { insist } from './publisher';

export const createHostnames = (entity: Entity) => {
  const { key, local, inTurn } = entity;

  /** Takes from others the hostnames that a change has asked to be moved, now that the release serves. */
  const take = (): Promise<void> =>
    inTurn(async () => {
      const { movingHostnames = [] } = entity.state;
      const desired = desiredOf(entity.state);
      if (movingHostnames.length === 0 || !desired || entity.state.queued) return;
      const asked = hostnamesOf(desired.release.spec);
      const moving = movingHostnames.filter(({ hostname }) => asked.includes(hostname));
      if (moving.length > 0) {
        const hostnames = moving.map(({ hostname }) => hostname);
        await insist('take hostnames over', () => local.moveHostnames({ ...key, hostnames }));
      }
      const { movingHostnames: _moved, ...rest } = entity.state;
      entity.state = rest;
      for (const owner of new Set(moving.map((one) => one.owner))) {
        const hostnames = moving.filter((one) => one.owner === owner).map(({ hostname }) => hostname);
        try {
          await getExternalWorkflowHandle(
            microserviceWorkflowId({ project: key.project, name: owner }),
          ).signal<[HostnamesTakenSignal]>(SIGNAL.hostnamesTaken, { hostnames, by: entity.state.name });
        } catch (error) {
          if (isCancellation(error)) throw error;
          // It has been removed meanwhile: there is nothing that it could still ask for.
          log.debug('who had the hostnames is gone', { error: String(error) });
        }
      }
    });

  /** Gives back the hostnames that only releases before the desired one have asked for. */
  const giveBack = (): Promise<void> =>
    inTurn(async () => {
      const desired = desiredOf(entity.state);
      if (!desired || !entity.state.holdsSpareHostnames || entity.state.queued) return;
      const keep = hostnamesOf(desired.release.spec);
      await insist('give hostnames back', () => local.releaseHostnames({ ...key, keep }));
      entity.state = { ...entity.state, holdsSpareHostnames: false };
    });

  return { take, giveBack };
};
