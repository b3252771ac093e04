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
import type { Certificate, HttpChallenge } from '../../contracts/certificates';
import { createDocumentReader, type Documents } from '../../contracts/documents';
import { KV_PREFIX } from '../../contracts/kv';
import type { KvStore } from '../../contracts/kv-store';
import { servedCertificates } from '../../domain/ingress/served-certificates';
import { createTurns } from '../turns';

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
  const certificates = new Map<string, Certificate>();
  const challenges = new Map<string, HttpChallenge>();
  /** Of what has been opened, by what was opened: until it goes. */
  const opened = new Map<string, string>();
  const toldUnopened = new Set<string>();
  const triedKeys = new Set<string>();
  let sealer: Sealer | undefined;

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
        turns.heard(kind, { changed, removed });
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

  const turns = createTurns({
    sources: ['certificates', 'httpChallenges'],
    follow: () => [follow('certificates', certificates), follow('httpChallenges', challenges)],
    turn,
    words: { failing: 'certificates do not follow', well: 'certificates follow again' },
    nowMs,
    logger,
  });
  return { start: () => turns.start(), stop: () => turns.stop() };
};
