/**
 * Counts what the ingress of this node sees of releases under judgement, and publishes it for whoever judges them.
 *
 * Invariants: nothing is read, and nothing is published, while no release is under judgement; a split's requests are
 * counted from zero with each of its stages; what is published has an end: a number for each release and bucket.
 */

import type { Logger } from 'pino';

import type { DocumentWriter } from '../../adapters/document-writer';
import type { JudgedLog } from '../../adapters/ingress/judged-log';
import { requestCountsKvKey } from '../../contracts/kv';
import {
  LATENCY_BUCKETS,
  latencyBucket,
  type ReleaseCounts,
  type RequestCounts,
} from '../../domain/judgement';
import { microserviceId, type ObservedReplica } from '../../domain/model';
import type { TrafficSplit } from '../../domain/traffic';
import { hostPort } from '../../domain/host-port';
import { createTroubles } from '../troubles';

const READ_EVERY_MS = 1_000;

interface Counted {
  requests: number;
  errors: number;
  readonly latencies: number[];
}

interface Stage {
  readonly split: TrafficSplit;
  readonly sinceMs: number;
  readonly releases: Map<number, Counted>;
}

export interface RequestCounter {
  /** What requests go by from now on. */
  readonly follow: (splits: ReadonlyMap<string, TrafficSplit>, replicas: Iterable<ObservedReplica>) => void;
  stop(): void;
}

export const createRequestCounter = (deps: {
  readonly nodeId: string;
  readonly log: JudgedLog;
  readonly documents: Pick<DocumentWriter, 'put' | 'remove'>;
  readonly logger: Logger;
}): RequestCounter => {
  const troubles = createTroubles(deps.logger);
  /** By microservice. */
  let stages = new Map<string, Stage>();
  /** Which release of which microservice an address is. */
  const owners = new Map<string, { readonly id: string; readonly release: number }>();
  let timer: NodeJS.Timeout | undefined;
  let isWriting = false;
  let isStale = false;
  /** What an earlier process has left may be there. */
  let isPublished = true;

  const countIn = (stage: Stage, release: number): Counted => {
    const found = stage.releases.get(release);
    if (found !== undefined) return found;
    const made = { requests: 0, errors: 0, latencies: Array<number>(LATENCY_BUCKETS).fill(0) };
    stage.releases.set(release, made);
    return made;
  };

  const read = (): void => {
    try {
      for (const { address, isError, latencyMs, endedAtMs } of deps.log.read()) {
        const owner = owners.get(address);
        const stage = owner && stages.get(owner.id);
        // Of the stage before: what is told comes a little later.
        if (!stage || endedAtMs < stage.sinceMs) continue;
        const counted = countIn(stage, owner.release);
        counted.requests += 1;
        if (isError) counted.errors += 1;
        if (latencyMs !== undefined) {
          const bucket = latencyBucket(latencyMs);
          counted.latencies[bucket] = (counted.latencies[bucket] ?? 0) + 1;
        }
        isStale = true;
      }
      troubles.over('read', 'requests are counted again');
    } catch (error) {
      troubles.note('read', error, 'requests to releases under judgement cannot be counted');
    }
  };

  const document = (): RequestCounts => ({
    id: deps.nodeId,
    splits: [...stages.values()].map(({ split, releases }) => ({
      operation: split.operation,
      stage: split.stage,
      releases: [...releases].map(([release, { requests, errors, latencies }]): ReleaseCounts => ({
        release,
        requests,
        errors,
        latencies: [...latencies],
      })),
    })),
  });

  const publish = async (): Promise<void> => {
    if (isWriting || !isStale) return;
    isWriting = true;
    isStale = false;
    const key = requestCountsKvKey(deps.nodeId);
    try {
      if (stages.size > 0) await deps.documents.put(key, document());
      else if (isPublished) await deps.documents.remove(key);
      isPublished = stages.size > 0;
      troubles.over('publish', 'counts of requests are published again');
    } catch (error) {
      isStale = true;
      troubles.note('publish', error, 'counts of requests are not published');
    } finally {
      isWriting = false;
    }
  };

  const turn = (): void => {
    if (stages.size > 0) read();
    void publish();
    if (stages.size > 0 || isStale || isWriting) return;
    clearInterval(timer);
    timer = undefined;
    deps.log.close();
  };

  return {
    follow: (splits, replicas) => {
      const judged = [...splits].filter(([, { isJudged }]) => isJudged);
      // What was logged until now is of the stage before.
      if (stages.size > 0) read();
      const next = new Map(
        judged.map(([id, split]): [string, Stage] => {
          const known = stages.get(id);
          const isSame = known?.split.operation === split.operation && known.split.stage === split.stage;
          return [id, isSame ? known : { split, sinceMs: Date.now(), releases: new Map() }];
        }),
      );
      if ([...next, ...stages].some(([id]) => next.get(id) !== stages.get(id))) isStale = true;
      if (isPublished && next.size === 0) isStale = true;
      const isFirst = stages.size === 0 && next.size > 0;
      stages = next;
      if (stages.size === 0) owners.clear();
      for (const { project, name, release, ports } of stages.size === 0 ? [] : replicas) {
        const id = microserviceId({ project, name });
        if (!stages.has(id)) continue;
        for (const port of ports) owners.set(hostPort(port.address, port.hostPort), { id, release });
      }
      // Only what comes from now on counts.
      if (isFirst) read();
      if (timer === undefined && isStale) timer = setInterval(turn, READ_EVERY_MS).unref();
    },
    stop: () => {
      clearInterval(timer);
      deps.log.close();
    },
  };
};
