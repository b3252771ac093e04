/**
 * What operators say of nodes: the only writer of the settings of nodes.
 *
 * Invariants: a setting and the event that tells of it are one write; saying again what holds already writes nothing,
 * so that a repeated request is no news.
 */

import type { KeyValueStore } from '../contracts/key-value-store';
import { eventKvKey, nodeSettingsKvKey } from '../contracts/kv';
import { ContainerOsError } from '../domain/errors';
import type { ClusterEvent, NodeAvailability, NodeSettings } from '../domain/model';

export interface NodeSettingsWriter {
  /**
   * @returns Consul's index of the write; undefined when it held already
   * @throws {ContainerOsError} `unavailable` when Consul does not take it
   */
  setAvailability(nodeId: string, availability: NodeAvailability): Promise<number | undefined>;
}

export interface NodeSettingsDeps {
  readonly store: KeyValueStore;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
  readonly nowMs: () => number;
}

const EVENTS: Readonly<Record<NodeAvailability, { readonly type: string; readonly words: string }>> = {
  active: { type: 'node.uncordoned', words: 'takes replicas again' },
  cordoned: { type: 'node.cordoned', words: 'is cordoned: it keeps what it has and takes nothing new' },
  draining: { type: 'node.draining', words: 'is being drained: what it has moves elsewhere' },
};

export const createNodeSettingsWriter = (deps: NodeSettingsDeps): NodeSettingsWriter => ({
  setAvailability: async (nodeId, availability) => {
    const key = nodeSettingsKvKey(nodeId);
    const known = await deps.store.get<NodeSettings>(key);
    if ((known?.value?.availability ?? 'active') === availability) return undefined;
    const atMs = deps.nowMs();
    const settings: NodeSettings = { id: nodeId, availability, setAtMs: atMs };
    const { type, words } = EVENTS[availability];
    const event: ClusterEvent = {
      atMs,
      level: 'info',
      type,
      message: `node ${nodeId} ${words}`,
      node: nodeId,
    };
    const result = await deps.store.transact([
      { kind: 'set', key, value: settings },
      { kind: 'set', key: eventKvKey(atMs, deps.randomSuffix()), value: event },
    ]);
    if (result.kind === 'written') return result.index;
    throw new ContainerOsError(
      'unavailable',
      `Consul did not take the setting of node ${nodeId}. Try again.`,
    );
  },
});
