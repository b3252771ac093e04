/**
 * Lets a node leave by its own wish: what it has moves elsewhere first, then it is removed.
 *
 * Invariants: asked again, it goes on where it was; what is removed is the machine that asked, and not another one that
 * has taken its name while it waited; a node that has begun to leave takes nothing new until somebody uncordons it; what
 * cannot end by itself is not waited for.
 */

import type { LeaveAnswer, LeaveRequest } from '../../contracts/join';
import { ContainerOsError } from '../../domain/errors';
import { groupBy } from '../../domain/group-by';
import { microserviceId, type Microservice } from '../../domain/model';
import { keepsData } from '../../domain/placement/needs';
import type { NodeSettingsWriter } from '../node-settings';
import { TOPIC } from '../read-documents';
import type { ReadModel, ShownReplica } from '../read-model';
import type { NodeRemover } from '../remove-node';

export interface LeaveDeps {
  readonly readModel: Pick<ReadModel, 'replicas' | 'microservice' | 'versions' | 'waitForIndex'>;
  readonly nodeSettings: NodeSettingsWriter;
  readonly remover: Pick<NodeRemover, 'assertRemovable' | 'remove'>;
  /** How long a request waits for the node to become empty; the node asks again. */
  readonly waitMs?: number;
}

/** Of the certificate under which it asks. */
export interface LeavingNode {
  readonly nodeId: string;
  readonly serial: string;
}

const WAIT_MS = 20_000;
/** How long the read model may take to know of the drain. */
const OWN_WRITE_TIMEOUT_MS = 2_000;

/** What a node that wants to leave still has, by what becomes of it; names, sorted, each once. */
interface Leftover {
  readonly moving: readonly string[];
  readonly movingReplicas: number;
  /** They stop when all else has left. */
  readonly daemons: readonly string[];
  /** They keep data in volumes, which are on their node for good. */
  readonly staying: readonly string[];
  /** What those that have to move elsewhere fail of. */
  readonly failures: readonly string[];
}

const staysWithItsData = ({ release, state, scale }: Microservice): boolean =>
  release.spec.daemon !== true && state !== 'removing' && scale > 0 && keepsData(release.spec);

/** What is being stopped already is gone soon. */
const isThere = ({ state }: ShownReplica): boolean => state !== 'stopping';

const leftoverOf = (left: readonly ShownReplica[], microserviceOf: ReadModel['microservice']): Leftover => {
  const found = { moving: new Set<string>(), daemons: new Set<string>(), staying: new Set<string>() };
  const failures = new Set<string>();
  let movingReplicas = 0;
  for (const replicas of groupBy(left, microserviceId).values()) {
    const [first] = replicas;
    if (first === undefined) continue;
    const { name, daemon } = first;
    const owner = microserviceOf(first);
    if (daemon === true) found.daemons.add(name);
    else if (owner !== undefined && staysWithItsData(owner) && replicas.some(isThere))
      found.staying.add(name);
    else {
      found.moving.add(name);
      movingReplicas += replicas.length;
      if (owner?.state === 'failed') failures.add(`${name}: ${owner.message}`);
    }
  }
  const sorted = (names: ReadonlySet<string>) => [...names].sort();
  return {
    moving: sorted(found.moving),
    movingReplicas,
    daemons: sorted(found.daemons),
    staying: sorted(found.staying),
    failures: sorted(failures),
  };
};

const isStuck = ({ moving, staying }: Leftover): boolean => moving.length === 0 && staying.length > 0;

const listInWords = (names: readonly string[]): string =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1) ?? ''}`;

const stuckError = (nodeId: string, { staying, daemons }: Leftover): ContainerOsError => {
  const isOne = staying.length === 1;
  const last = daemons.length === 0 ? '' : ` (but for ${listInWords(daemons)}: daemons stop last)`;
  return new ContainerOsError(
    'conflict',
    `Node ${nodeId} cannot leave: ${listInWords(staying)} ${isOne ? 'keeps its' : 'keep their'} data in volumes there, so ${isOne ? 'it stays' : 'they stay'}. All else that can leave has left${last}. Remove ${isOne ? 'that microservice' : 'those microservices'}; or leave with containeros leave --force: ${isOne ? 'it starts' : 'they start'} elsewhere without that data, which stays on this machine; or let the node go on with containeros uncordon ${nodeId}.`,
  );
};

const answerOf = ({ moving, movingReplicas, daemons, staying, failures }: Leftover): LeaveAnswer => {
  const troubles = [
    ...staying.map((name) => `${name} keeps its data in volumes here, and stays.`),
    ...daemons.map((name) => `${name} is a daemon, and stops last.`),
    ...failures,
  ];
  return {
    hasLeft: false,
    replicas: movingReplicas,
    microservices: moving,
    ...(troubles.length === 0 ? {} : { troubles }),
  };
};

/** @returns what answers a node's wish to leave; rejects with ContainerOsError */
export const createLeaveNode =
  ({ readModel, nodeSettings, remover, waitMs = WAIT_MS }: LeaveDeps) =>
  async ({ nodeId, serial }: LeavingNode, { force }: LeaveRequest): Promise<LeaveAnswer> => {
    remover.assertRemovable(nodeId);
    const { versions } = readModel;
    const left = () => readModel.replicas().filter((one) => one.nodeId === nodeId && one.state !== 'exited');
    const leftover = () => leftoverOf(left(), (key) => readModel.microservice(key));
    if (!force) {
      const index = await nodeSettings.setAvailability(nodeId, 'draining');
      if (index !== undefined) await readModel.waitForIndex(index, OWN_WRITE_TIMEOUT_MS, 'nodeSettings');
      const endMs = performance.now() + waitMs;
      while (left().length > 0 && !isStuck(leftover()) && performance.now() < endMs) {
        await versions.waitBeyond(TOPIC.replicas, versions.current(), endMs - performance.now());
      }
      const now = leftover();
      if (isStuck(now)) throw stuckError(nodeId, now);
      if (left().length > 0) return answerOf(now);
    }
    await remover.remove(nodeId, serial);
    return { hasLeft: true, replicas: 0, microservices: [] };
  };
