/**
 * Follows who has which hostname, and has a workflow get the certificate of each public one.
 *
 * Invariants: only hostnames of known microservices are ever asked for; it holds no state that matters: what a keeper
 * that was away has missed, the next one finds, and a word too many costs one look.
 */

import type { KvDocument, KvStore, KvWatch } from '../../contracts/kv-store';
import type { Certificate } from '../../contracts/certificates';
import { createDocumentReader } from '../../contracts/documents';
import { KV_PREFIX, microserviceKvKey } from '../../contracts/kv';
import { isHostnameClaim } from '../../domain/ingress/public-ports';
import { splitClaim } from '../../domain/ingress/route-options';
import type { MicroserviceKey } from '../../domain/model';

export interface CertificateWorkflows {
  /** Starts the workflow of a hostname, or tells it that the hostname is wanted. */
  want(hostname: string): Promise<void>;
  /** Tells it, if it runs. */
  gone(hostname: string): Promise<void>;
  retryNow(hostname: string): Promise<void>;
  /** Hostnames of those that run. */
  running(): Promise<readonly string[]>;
}

export interface CertificateKeeperDeps {
  readonly kv: Pick<KvStore, 'watch' | 'get'>;
  readonly workflows: CertificateWorkflows;
  readonly isPublic: (hostname: string) => boolean;
  /** Whether a certificate for these names is good for the hostname. */
  readonly covers: (names: readonly string[], hostname: string) => boolean;
  readonly warn: (message: string, error?: unknown) => void;
}

export interface CertificateKeeper {
  /** Resolves when all words that are under way were said. */
  close(): Promise<void>;
}

/** Hostnames are claimed a moment before their microservice is published; and words that fail are said again. */
const AGAIN_MS = 1_000;
const AGAIN_MAX_MS = 60_000;

export const createCertificateKeeper = (deps: CertificateKeeperDeps): CertificateKeeper => {
  const { kv, workflows, warn } = deps;
  const read = createDocumentReader(warn);
  /** Who holds what of each hostname: itself, or paths of it, which may be those of several microservices. */
  const holders = new Map<string, Map<string, MicroserviceKey>>();
  /** Stands for the newest wish for each hostname. */
  const wishes = new Map<string, object>();
  const brought = new Map<string, Certificate>();
  const timers = new Set<NodeJS.Timeout>();
  const saying = new Set<Promise<void>>();
  let isClosed = false;

  const later = (body: () => void, waitMs: number) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      body();
    }, waitMs);
    timers.add(timer);
  };

  /** Says it until it was heard, for as long as it holds. */
  const say = (what: string, holds: () => boolean, word: () => Promise<boolean>, waitMs = AGAIN_MS): void => {
    if (isClosed || !holds()) return;
    const again = () => later(() => say(what, holds, word, Math.min(AGAIN_MAX_MS, waitMs * 2)), waitMs);
    const said = word()
      .then((isHeard) => {
        if (!isHeard) again();
      })
      .catch((error: unknown) => {
        warn(`could not ${what}; trying again`, error);
        again();
      })
      .finally(() => saying.delete(said));
    saying.add(said);
  };

  const isKnown = async (owner: MicroserviceKey): Promise<boolean> =>
    (await kv.get(microserviceKvKey(owner))).document !== undefined;

  const want = (hostname: string): void => {
    const wish = {};
    wishes.set(hostname, wish);
    say(
      `have a certificate for ${hostname} asked for`,
      () => wishes.get(hostname) === wish,
      async () => {
        const owners = new Map(
          [...(holders.get(hostname)?.values() ?? [])].map((owner) => [microserviceKvKey(owner), owner]),
        );
        for (const owner of owners.values()) {
          if (!(await isKnown(owner))) continue;
          await workflows.want(hostname);
          return true;
        }
        return false;
      },
    );
  };

  const gone = (hostname: string): void =>
    say(
      `tell that nobody has ${hostname} any more`,
      () => !holders.has(hostname),
      async () => {
        await workflows.gone(hostname);
        return true;
      },
    );

  const retry = (names: readonly string[]): void => {
    for (const hostname of holders.keys()) {
      if (!deps.covers(names, hostname)) continue;
      say(
        `have the certificate of ${hostname} looked at`,
        () => holders.has(hostname),
        async () => {
          await workflows.retryNow(hostname);
          return true;
        },
      );
    }
  };

  /** Those whose hostname has gone while nobody followed. */
  const endOthers = (): void =>
    say(
      'find certificates that nobody needs',
      () => true,
      async () => {
        for (const hostname of await workflows.running()) if (!holders.has(hostname)) gone(hostname);
        return true;
      },
    );

  const claimIn = (key: string) => key.slice(KV_PREFIX.hostnames.length);

  /** @returns the hostname, when it is one to ask for */
  const noteClaim = (document: KvDocument): string | undefined => {
    const claim = claimIn(document.key);
    const { hostname } = splitClaim(claim);
    const owner = read('hostnames', document);
    if (owner === undefined || !isHostnameClaim(claim) || !deps.isPublic(hostname)) return undefined;
    const held = holders.get(hostname) ?? new Map<string, MicroserviceKey>();
    holders.set(hostname, held.set(claim, owner));
    return hostname;
  };

  /** @returns the hostname, when nobody has anything of it any more */
  const dropClaim = (key: string): string | undefined => {
    const claim = claimIn(key);
    const { hostname } = splitClaim(claim);
    const held = holders.get(hostname);
    if (held?.delete(claim) !== true || held.size > 0) return undefined;
    holders.delete(hostname);
    wishes.delete(hostname);
    return hostname;
  };

  let isFirst = true;
  const unreachable = (error: unknown) => warn('Consul does not answer; trying again', error);
  const hostnames: KvWatch = kv.watch(KV_PREFIX.hostnames, {
    changed: ({ changed, removed }) => {
      const left = new Set(removed.map(dropClaim));
      const wanted = new Set(changed.map(noteClaim));
      for (const hostname of wanted) if (hostname !== undefined) want(hostname);
      for (const hostname of left) if (hostname !== undefined && !holders.has(hostname)) gone(hostname);
      if (isFirst) endOthers();
      isFirst = false;
    },
    unreachable,
  });

  let isFirstOfCertificates = true;
  const certificates: KvWatch = kv.watch(KV_PREFIX.certificates, {
    changed: ({ changed, removed }) => {
      for (const document of changed) {
        const certificate = read('certificates', document);
        const before = brought.get(document.key);
        const isBrought = certificate?.source === 'uploaded';
        if (isBrought) brought.set(document.key, certificate);
        else brought.delete(document.key);
        // Those that workflows write themselves are no news to them.
        const news = [...(before?.hostnames ?? []), ...(isBrought ? certificate.hostnames : [])];
        if (news.length > 0 && !isFirstOfCertificates) retry(news);
      }
      for (const key of removed) {
        const names = brought.get(key)?.hostnames ?? [key.slice(KV_PREFIX.certificates.length)];
        brought.delete(key);
        retry(names);
      }
      isFirstOfCertificates = false;
    },
    unreachable,
  });

  return {
    close: async () => {
      isClosed = true;
      hostnames.close();
      certificates.close();
      for (const timer of timers) clearTimeout(timer);
      await Promise.all(saying);
    },
  };
};
