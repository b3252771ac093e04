/**
 * Lets a node leave by its own wish: what it has moves elsewhere first, then it is removed.
 *
 * Invariants: asked again, it goes on where it was; what is removed is the machine that asked, and not another one that
 * has taken its name while it waited; a node that has begun to leave takes nothing new until somebody uncordons it.
 */

import type { LeaveAnswer, LeaveRequest } from '../../contracts/join';
import type { NodeSettingsWriter } from '../node-settings';
import { TOPIC } from '../read-documents';
import type { ReadModel } from '../read-model';
import type { NodeRemover } from '../remove-node';

export interface LeaveDeps {
  readonly readModel: Pick<ReadModel, 'replicas' | 'versions' | 'waitForIndex'>;
  readonly nodeSettings: NodeSettingsWriter;
  readonly remover: NodeRemover;
}

/** Of the certificate under which it asks. */
export interface LeavingNode {
  readonly nodeId: string;
  readonly serial: string;
}

/** How long a request waits for the node to become empty; the node asks again. */
const WAIT_MS = 20_000;
/** How long the read model may take to know of the drain. */
const OWN_WRITE_TIMEOUT_MS = 2_000;

/** @returns what answers a node's wish to leave; rejects with ContainerOsError */
export const createLeaveNode =
  ({ readModel, nodeSettings, remover }: LeaveDeps) =>
  async ({ nodeId, serial }: LeavingNode, { force }: LeaveRequest): Promise<LeaveAnswer> => {
    remover.assertRemovable(nodeId);
    const { versions } = readModel;
    const left = () => readModel.replicas().filter((one) => one.nodeId === nodeId && one.state !== 'exited');
    if (!force) {
      const index = await nodeSettings.setAvailability(nodeId, 'draining');
      if (index !== undefined) await readModel.waitForIndex(index, OWN_WRITE_TIMEOUT_MS, 'nodeSettings');
      const endMs = performance.now() + WAIT_MS;
      while (left().length > 0 && performance.now() < endMs) {
        await versions.waitBeyond(TOPIC.replicas, versions.current(), endMs - performance.now());
      }
      const microservices = [...new Set(left().map(({ name }) => name))].sort();
      if (microservices.length > 0) {
        return { hasLeft: false, replicas: left().length, microservices };
      }
    }
    await remover.remove(nodeId, serial);
    return { hasLeft: true, replicas: 0, microservices: [] };
  };
