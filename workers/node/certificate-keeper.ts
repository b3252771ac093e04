/**
 * Keeps certificates and answers to ACME challenges of this node's ingress at what Consul says, as files that Caddy reads.
 *
 * Invariants: nothing that is missing before Consul has been heard counts as gone, and while Consul is away, what is there
 * holds; one certificate that cannot be opened takes nothing from the others; what failed is done again; what ends or
 * begins to be valid is seen at that time.
 */

import type { Logger } from 'pino';

import { openCertificate } from '../../adapters/certificates/certificate-store';
import { keyIdOf, type Sealer } from '../../adapters/certificates/seal';
import type { CertificateFiles } from '../../adapters/ingress/certificate-files';
import { pause } from '../../adapters/pause';
import type { Certificate, HttpChallenge } from '../../contracts/certificates';
import { createDocumentReader, type Documents } from '../../contracts/documents';
import { KV_PREFIX } from '../../contracts/kv';
import type { KvStore } from '../../contracts/kv-store';
import { servedCertificates } from '../../domain/ingress/served-certificates';
import { createTroubles } from '../troubles';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
/** No timer waits for longer than that, whatever the clock does meanwhile. */
const LONGEST_WAIT_MS = 3_600_000;

export interface CertificateKeeper {
  start(): void;
  stop(): void;
}

export interface CertificateKeeperDeps {
  readonly kv: Pick<KvStore, 'watch'>;
  readonly files: CertificateFiles;
  /** @param isAnew whether what was given before does not fit */
  readonly openSealer: (how: { readonly isAnew: boolean }) => Promise<Sealer>;
  readonly nowMs: () => number;
  readonly logger: Logger;
}

export const createCertificateKeeper = (deps: CertificateKeeperDeps): CertificateKeeper => {
  const { kv, files, nowMs, logger } = deps;
  const troubles = createTroubles(logger);
  const stopped = new AbortController();
  const certificates = new Map<string, Certificate>();
  const challenges = new Map<string, HttpChallenge>();
  const unread = new Set<string>(['certificates', 'httpChallenges']);
  /** Of what has been opened, by what was opened: until it goes. */
  const opened = new Map<string, string>();
  const toldUnopened = new Set<string>();
  const triedKeys = new Set<string>();
  let sealer: Sealer | undefined;
  let wake: () => void = () => undefined;
  let isStale = false;

  const read = createDocumentReader((message) => logger.error(message));

  const follow = <K extends 'certificates' | 'httpChallenges'>(kind: K, rows: Map<string, Documents[K]>) =>
    kv.watch(KV_PREFIX[kind], {
      changed: ({ changed, removed }) => {
        for (const stored of changed) {
          const row = read(kind, stored);
          if (row === undefined) rows.delete(stored.key);
          else rows.set(stored.key, row);
        }
        for (const key of removed) rows.delete(key);
        unread.delete(kind);
        isStale = true;
        wake();
      },
      unreachable: (error) => logger.debug({ err: error }, 'certificates cannot be followed in Consul'),
    });

  /** Asks for the key again for each other one that something was sealed with, once. */
  const findSealer = async (): Promise<Sealer> => {
    sealer ??= await deps.openSealer({ isAnew: false });
    const { keyId } = sealer;
    const others = [...certificates.values()]
      .map(({ sealed }) => keyIdOf(sealed))
      .filter((id) => id !== undefined && id !== keyId && !triedKeys.has(id));
    if (others.length === 0) return sealer;
    sealer = await deps.openSealer({ isAnew: true });
    for (const id of others) if (id !== undefined) triedKeys.add(id);
    return sealer;
  };

  const open = (certificate: Certificate, by: Sealer): Certificate | undefined => {
    if (opened.has(certificate.sealed)) return certificate;
    try {
      const { chainPem, keyPem } = openCertificate(by, certificate);
      opened.set(certificate.sealed, `${chainPem.trimEnd()}\n${keyPem}`);
      return certificate;
    } catch (error) {
      if (!toldUnopened.has(certificate.sealed)) logger.error((error as Error).message);
      toldUnopened.add(certificate.sealed);
      return undefined;
    }
  };

  /** @returns when it has to be done again, milliseconds since the epoch */
  const turn = async (): Promise<number | undefined> => {
    const now = nowMs();
    const answered = [...challenges.values()].filter(({ expiresAtMs }) => expiresAtMs > now);
    // First: an ACME server waits for them.
    files.writeChallenges(answered);
    const by = certificates.size === 0 ? undefined : await findSealer();
    const known = [...certificates.values()];
    const usable = by === undefined ? [] : known.flatMap((one) => open(one, by) ?? []);
    const served = servedCertificates(usable, now);
    const pemOf = (chosen: ReadonlyMap<string, Certificate>) =>
      new Map([...chosen].map(([name, { sealed }]) => [name, opened.get(sealed) ?? '']));
    // What is redirected has a certificate by then; what has none any more is redirected no more before.
    const { redirectedExact, redirectedWildcard } = served;
    files.keepHttpsOnly('exact', redirectedExact);
    files.keepHttpsOnly('wildcard', redirectedWildcard);
    files.writeCertificates('wildcard', pemOf(served.wildcard));
    files.writeCertificates('exact', pemOf(served.exact));
    files.writeHttpsOnly('exact', redirectedExact);
    files.writeHttpsOnly('wildcard', redirectedWildcard);
    const isKnown = new Set(known.map(({ sealed }) => sealed));
    for (const sealed of opened.keys()) if (!isKnown.has(sealed)) opened.delete(sealed);
    for (const sealed of toldUnopened) if (!isKnown.has(sealed)) toldUnopened.delete(sealed);
    const times = [served.untilMs, ...answered.map(({ expiresAtMs }) => expiresAtMs)].filter(
      (atMs) => atMs !== undefined,
    );
    return times.length === 0 ? undefined : times.reduce((a, b) => Math.min(a, b));
  };

  const run = async (): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    let againAtMs: number | undefined;
    while (!stopped.signal.aborted) {
      if (unread.size > 0 || !isStale) {
        const waitMs = againAtMs === undefined ? LONGEST_WAIT_MS : againAtMs - nowMs();
        const timer = setTimeout(
          () => {
            isStale = unread.size === 0;
            wake();
          },
          Math.min(Math.max(waitMs, 0), LONGEST_WAIT_MS),
        );
        timer.unref();
        await new Promise<void>((resolve) => (wake = resolve));
        clearTimeout(timer);
        continue;
      }
      isStale = false;
      try {
        againAtMs = await turn();
        troubles.over('turn', 'certificates follow again');
        retryMs = FIRST_RETRY_MS;
      } catch (error) {
        isStale = true;
        troubles.note('turn', error, 'certificates do not follow');
        await pause(retryMs, stopped.signal);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  };

  return {
    start: () => {
      const watches = [follow('certificates', certificates), follow('httpChallenges', challenges)];
      stopped.signal.addEventListener('abort', () => watches.forEach((watch) => watch.close()), {
        once: true,
      });
      void run();
    },
    stop: () => {
      stopped.abort();
      wake();
    },
  };
};
