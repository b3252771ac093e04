/**
 * Has every private hostname of a known microservice a certificate of the cluster's own authority, and in time a new one.
 *
 * Invariants: what people gave, or a public authority, is never replaced; nothing is issued or removed before it is known
 * what there is; several control planes may do this at once, and the last one written counts; what failed is done again.
 */

import { X509Certificate } from 'node:crypto';

import type { Logger } from 'pino';

import type { OwnCertificateStore } from '../adapters/certificates/certificate-store';
import { readChain } from '../adapters/certificates/read-chain';
import type { Certificate, CertificateMaterial } from '../contracts/certificates';
import { createDocumentReader } from '../contracts/documents';
import type { AuthorityMaterial } from '../contracts/hostname-authority';
import { KV_PREFIX } from '../contracts/kv';
import type { KvStore } from '../contracts/kv-store';
import { authorityFor } from '../domain/ingress/authority-for';
import { isHostnameClaim } from '../domain/ingress/public-ports';
import { splitClaim } from '../domain/ingress/route-options';
import { createLimiter } from '../domain/limiter';

import { createTurns } from './turns';

const ISSUED_AT_ONCE = 8;
/** Not more often, whatever its times say: at the end of the root they are short. */
const AT_LEAST_MS = 3_600_000;

/** When a third of its time is left, milliseconds since the epoch. */
const renewalDueMs = ({ notBeforeMs, notAfterMs, updatedAtMs }: Certificate): number =>
  Math.max(notAfterMs - (notAfterMs - notBeforeMs) / 3, updatedAtMs + AT_LEAST_MS);

export interface InternalCertificates {
  start(): void;
  stop(): void;
}

export interface InternalCertificatesDeps {
  readonly kv: Pick<KvStore, 'watch'>;
  readonly certificates: Pick<OwnCertificateStore, 'read' | 'writeInternal' | 'removeInternal'>;
  /** Opens it, each time: another control plane may have made another one. */
  readonly openAuthority: () => Promise<AuthorityMaterial>;
  readonly issue: (request: {
    readonly authority: AuthorityMaterial;
    readonly hostname: string;
    readonly nowMs: number;
  }) => Promise<CertificateMaterial>;
  /** For development: of all hostnames. */
  readonly isInternalOnly: boolean;
  readonly nowMs: () => number;
  readonly logger: Logger;
}

export const createInternalCertificates = (deps: InternalCertificatesDeps): InternalCertificates => {
  const { kv, certificates, nowMs, logger } = deps;
  const limiter = createLimiter(ISSUED_AT_ONCE);
  /** Hostnames, some of them with a path: several may be of one hostname. */
  const claims = new Set<string>();
  const known = new Map<string, Certificate>();
  /** Fingerprints of certificates that were seen to be of the authority that there is. */
  const own = new Set<string>();
  let ownRoot: string | undefined;

  const read = createDocumentReader((message) => logger.error(message));
  const unreachable = (error: unknown): void =>
    logger.debug({ err: error }, 'hostnames without certificates cannot be followed in Consul');
  const nameIn = (key: string, prefix: string): string => key.slice(prefix.length);

  const follow = () => [
    kv.watch(KV_PREFIX.hostnames, {
      changed: ({ changed, removed }) => {
        for (const { key } of changed) claims.add(nameIn(key, KV_PREFIX.hostnames));
        for (const key of removed) claims.delete(nameIn(key, KV_PREFIX.hostnames));
        turns.heard('hostnames', { changed, removed });
      },
      unreachable,
    }),
    kv.watch(KV_PREFIX.certificates, {
      changed: ({ changed, removed }) => {
        for (const stored of changed) {
          const certificate = read('certificates', stored);
          const name = nameIn(stored.key, KV_PREFIX.certificates);
          if (certificate === undefined) known.delete(name);
          else known.set(name, certificate);
        }
        for (const key of removed) known.delete(nameIn(key, KV_PREFIX.certificates));
        turns.heard('certificates', { changed, removed });
      },
      unreachable,
    }),
  ];

  /** Whether it was signed by the authority that there is, and can be opened with the key that there is. */
  const isOwn = async (certificate: Certificate, root: X509Certificate): Promise<boolean> => {
    if (own.has(certificate.fingerprint)) return true;
    const opened = await certificates.read(certificate.hostname);
    if (opened === undefined || !readChain(opened.chainPem).verify(root.publicKey)) return false;
    own.add(opened.fingerprint);
    return true;
  };

  const turn = async (): Promise<number | undefined> => {
    const now = nowMs();
    const isWanted = new Set(
      [...claims]
        .filter(isHostnameClaim)
        .map((claim) => splitClaim(claim).hostname)
        .filter((hostname) => authorityFor(hostname, deps.isInternalOnly) === 'internal'),
    );
    const wanted = [...isWanted];
    const surplus = [...known.values()].filter(
      ({ hostname, source }) => source === 'internal' && !isWanted.has(hostname),
    );
    // It is made at the first start, so that people can have it trusted before they need it.
    if (wanted.length + surplus.length === 0 && ownRoot !== undefined) return undefined;
    const authority = await deps.openAuthority();
    if (ownRoot !== authority.certificatePem) own.clear();
    ownRoot = authority.certificatePem;
    const root = new X509Certificate(authority.certificatePem);
    const keep = async (hostname: string): Promise<number | undefined> => {
      const found = known.get(hostname);
      if (found !== undefined && found.source !== 'internal') return undefined;
      if (found !== undefined && renewalDueMs(found) > now && (await isOwn(found, root))) {
        return renewalDueMs(found);
      }
      const material = await deps.issue({ authority, hostname, nowMs: now });
      const written = await certificates.writeInternal({ hostname, ...material });
      if (written === undefined) return undefined;
      logger.info({ hostname, until: new Date(written.notAfterMs).toISOString() }, 'issued a certificate');
      known.set(hostname, written);
      own.add(written.fingerprint);
      return renewalDueMs(written);
    };
    const due = await Promise.all([
      ...wanted.map((hostname) => limiter(() => keep(hostname))),
      ...surplus.map(({ hostname }) =>
        limiter(() => certificates.removeInternal(hostname).then(() => undefined)),
      ),
    ]);
    const times = due.filter((atMs) => atMs !== undefined);
    return times.length === 0 ? undefined : times.reduce((a, b) => Math.min(a, b));
  };

  const turns = createTurns({
    sources: ['hostnames', 'certificates'],
    follow: follow,
    turn,
    words: {
      failing: 'private hostnames get no certificates',
      well: 'private hostnames get certificates again',
    },
    nowMs,
    logger,
  });
  return { start: () => turns.start(), stop: () => turns.stop() };
};
