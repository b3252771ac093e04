/**
 * The events that the cluster keeps, in the order in which Consul took them in, with ids that a reader can come
 * back with.
 *
 * Invariants: an event's id never changes and survives a restart of the API; the order is that of Consul's writes and
 * not of the writers' clocks, so that a reader who resumes misses nothing that came in late with an older time.
 */

import { byText } from '../domain/by-text';
import type { ClusterEvent } from '../domain/model';

export interface StoredEvent {
  /** The time of the event and its suffix: the last part of its key in Consul. */
  readonly id: string;
  readonly index: number;
  readonly event: ClusterEvent;
}

export interface EventsAfter {
  readonly events: readonly StoredEvent[];
  /** Whether events after the one asked for may be missing, because it is no longer kept. */
  readonly gap: boolean;
}

export interface EventLog {
  /** @returns those that were not there before, in order */
  add(events: readonly StoredEvent[]): readonly StoredEvent[];
  /** @returns those that were there */
  remove(ids: readonly string[]): readonly StoredEvent[];
  all(): readonly StoredEvent[];
  after(id: string): EventsAfter;
}

const inOrder = (a: StoredEvent, b: StoredEvent): number => a.index - b.index || byText(a.id, b.id);

export const createEventLog = (): EventLog => {
  let events: StoredEvent[] = [];
  const known = new Map<string, StoredEvent>();

  return {
    add: (added) => {
      const fresh = added.filter(({ id }) => !known.has(id)).sort(inOrder);
      const renumbered = added.some(({ id, index }) => (known.get(id)?.index ?? index) !== index);
      for (const one of added) known.set(one.id, one);
      const last = events.at(-1);
      const first = fresh[0];
      const isOutOfOrder = last !== undefined && first !== undefined && inOrder(first, last) < 0;
      if (renumbered || isOutOfOrder) events = [...known.values()].sort(inOrder);
      else events.push(...fresh);
      return fresh;
    },
    remove: (ids) => {
      const gone = ids.flatMap((id) => known.get(id) ?? []);
      if (gone.length === 0) return gone;
      for (const { id } of gone) known.delete(id);
      events = events.filter(({ id }) => known.has(id));
      return gone;
    },
    all: () => events,
    after: (id) => {
      const from = known.get(id);
      if (from !== undefined) return { events: events.filter((one) => inOrder(one, from) > 0), gap: false };
      // Ids begin with the time, so those of an id that is no longer known can still be told by it.
      const later = events.filter((one) => one.id > id);
      return { events: later, gap: true };
    },
  };
};
