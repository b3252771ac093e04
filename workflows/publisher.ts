/**
 * Publishes what an entity decides: one writer, which coalesces what changes while it writes.
 *
 * Invariants: what is recorded is published in the end, however long Consul is away; `published` means that this
 * generation, or a newer one, can be read.
 */

import { condition, isCancellation, log, sleep } from '@temporalio/workflow';

import { RETRY } from '../contracts/timeouts';
import type { ClusterEvent, Microservice, Operation } from '../domain/model';

import type { LocalActivities } from './local-activities';

/** Does not give up: an entity outlives any outage of what it depends on. */
export const insist = async <T>(what: string, body: () => Promise<T>): Promise<T> => {
  for (;;) {
    try {
      return await body();
    } catch (error) {
      if (isCancellation(error)) throw error;
      log.warn(`could not ${what}; trying again`, { error: String(error) });
      await sleep(RETRY.local.maximumIntervalMs);
    }
  }
};

export interface Publisher {
  /** The record of an operation has changed. */
  record(operation: Operation): void;
  announce(event: ClusterEvent): void;
  /** Something else of what is published has changed. */
  touch(): void;
  /** These fall out of what is kept. */
  forget(gone: { readonly operations?: readonly string[]; readonly releases?: readonly number[] }): void;
  /** Nothing waits to be published. */
  flushed(): boolean;
  /** Resolves with the store's index when this generation is published. */
  published(generation: number): Promise<number>;
  /** Runs when everything is published, and keeps it so until it has ended. */
  alone<T>(body: () => Promise<T>): Promise<T>;
  /** Ends publishing; what is not yet published is dropped. */
  stop(): void;
  /** The loop; runs until `stop`. */
  run(): Promise<void>;
}

interface Batch {
  readonly operations: readonly Operation[];
  readonly events: readonly ClusterEvent[];
  readonly forgetOperations: readonly string[];
  readonly forgetReleases: readonly number[];
}

const EMPTY: Batch = { operations: [], events: [], forgetOperations: [], forgetReleases: [] };

/** Puts what was not published before what came since; of one operation, the newer record stays. */
const merge = (older: Batch, newer: Batch): Batch => ({
  operations: [
    ...older.operations.filter(({ id }) => !newer.operations.some((operation) => operation.id === id)),
    ...newer.operations,
  ],
  events: [...older.events, ...newer.events],
  forgetOperations: [...older.forgetOperations, ...newer.forgetOperations],
  forgetReleases: [...older.forgetReleases, ...newer.forgetReleases],
});

/**
 * @param local of the same entity
 * @param document what to publish now; undefined while there is nothing
 * @param publishedGeneration the generation that the run before has published
 */
export const createPublisher = (
  local: LocalActivities,
  document: () => Microservice | undefined,
  publishedGeneration: number,
): Publisher => {
  let generation = publishedGeneration;
  let index = 0;
  let waiting = EMPTY;
  let isDirty = false;
  let isPublishing = false;
  let isHeld = false;
  let isStopped = false;

  const add = (batch: Partial<Batch>) => {
    waiting = merge(waiting, { ...EMPTY, ...batch });
    isDirty = true;
  };

  const publish = async (): Promise<void> => {
    const microservice = document();
    isDirty = false;
    if (!microservice) return;
    const batch = waiting;
    waiting = EMPTY;
    isPublishing = true;
    try {
      ({ index } = await local.publishMicroservice({ microservice, ...batch }));
      generation = microservice.generation;
    } catch (error) {
      if (isCancellation(error)) throw error;
      log.warn('could not publish; trying again', { error: String(error) });
      waiting = merge(batch, waiting);
      isDirty = true;
      await sleep(RETRY.local.maximumIntervalMs);
    } finally {
      isPublishing = false;
    }
  };

  return {
    record: (operation) => add({ operations: [operation] }),
    announce: (event) => add({ events: [event] }),
    touch: () => add({}),
    forget: ({ operations = [], releases = [] }) =>
      add({ forgetOperations: operations, forgetReleases: releases }),
    flushed: () => !isDirty && !isPublishing,
    published: async (wanted) => {
      await condition(() => generation >= wanted);
      return index;
    },
    alone: async (body) => {
      await condition(() => !isDirty && !isPublishing);
      isHeld = true;
      try {
        return await body();
      } finally {
        isHeld = false;
      }
    },
    stop: () => {
      isStopped = true;
    },
    run: async () => {
      for (;;) {
        await condition(() => (isDirty && !isHeld) || isStopped);
        if (isStopped) return;
        await publish();
      }
    },
  };
};
