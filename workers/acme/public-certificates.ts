/**
 * Puts together what gets certificates of public hostnames: activities for the worker of the control plane, and the
 * keeper that starts their workflows.
 */

import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';

import { createCertificateActivities } from '../../activities/certificate-activities';
import { createAccountStore, generateKeyPem } from '../../adapters/acme/account-store';
import { createOrderLimiter } from '../../adapters/acme/order-limiter';
import { createSelfCheck } from '../../adapters/acme/self-check';
import { createAcmeAuthority } from '../../adapters/acme/acme-authority';
import { createCertificateStore } from '../../adapters/certificates/certificate-store';
import { createSealer } from '../../adapters/certificates/seal';
import { openDnsProvider } from '../../adapters/dns/open-provider';
import { createTxtCheck } from '../../adapters/dns/txt-check';
import { challengeRecordOf, type ChallengeType, type DnsProvider } from '../../contracts/acme';
import type { CertificateActivities } from '../../contracts/certificate-workflow';
import type { KeyValueStore } from '../../contracts/key-value-store';
import type { KvStore } from '../../contracts/kv-store';
import { IssueError } from '../../domain/certificates/acme-problem';
import { covers } from '../../domain/certificates/relied-on';
import { authorityFor } from '../../domain/ingress/authority-for';
import { isWildcard } from '../../domain/ingress/wildcard';

import { clusterKeyOf } from '../cluster/head-files';
import type { Config } from '../config';

import { createCertificateKeeper, type CertificateKeeper } from './certificate-keeper';
import { certificateWorkflowsOf } from './certificate-workflows';

export interface PublicCertificatesDeps {
  readonly kv: KvStore;
  readonly store: KeyValueStore;
  readonly logger: Logger;
  readonly randomSuffix: () => string;
}

export interface PublicCertificates {
  readonly activities: CertificateActivities;
  /** Begins to follow hostnames, with this client from now on. */
  follow(client: Client): void;
  stop(): Promise<void>;
}

/**
 * A wildcard can be proved by DNS only; another hostname is wherever its zone is at hand, as that works behind any
 * firewall, and else by HTTP.
 */
export const challengeBy =
  (dns: DnsProvider | undefined) =>
  async (hostname: string): Promise<ChallengeType | undefined> => {
    if (dns === undefined) return isWildcard(hostname) ? undefined : 'http-01';
    if (isWildcard(hostname)) return 'dns-01';
    try {
      return (await dns.handles(challengeRecordOf(hostname))) ? 'dns-01' : 'http-01';
    } catch (error) {
      if (error instanceof IssueError) return 'http-01';
      throw error;
    }
  };

export const createPublicCertificates = (
  config: Config,
  { kv, store, logger, randomSuffix }: PublicCertificatesDeps,
): PublicCertificates => {
  const { acme } = config;
  const sealer = createSealer(clusterKeyOf(config));
  const warn = (message: string, error?: unknown) =>
    logger.warn(error === undefined ? {} : { err: error }, message);
  const accounts = createAccountStore({ store, sealer, warn, nowMs: Date.now });
  const resolver = acme.resolver === undefined ? {} : { resolver: acme.resolver };
  const dns = acme.dns === undefined ? undefined : openDnsProvider(acme.dns.provider, acme.dns.credentials);
  const isPublic = (hostname: string) => authorityFor(hostname, config.dev) === 'public';

  const activities = createCertificateActivities({
    store,
    certificates: createCertificateStore({ store, sealer, nowMs: Date.now, onUnreadable: warn }),
    authorities: acme.authorities.map(({ directory, eab }) =>
      createAcmeAuthority(
        {
          directory,
          ...(eab === undefined ? {} : { eab }),
          ...(acme.email === undefined ? {} : { email: acme.email }),
          ...(acme.caPem === undefined ? {} : { caPem: acme.caPem }),
        },
        { accounts, nowMs: Date.now },
      ),
    ),
    limiter: createOrderLimiter({ store, nowMs: Date.now }),
    sealer,
    generateKeyPem,
    challengeFor: challengeBy(dns),
    dns,
    selfCheck: createSelfCheck(resolver),
    txtCheck: createTxtCheck(resolver),
    isPublic,
    warn,
    nowMs: Date.now,
    randomSuffix,
  });

  let keeper: CertificateKeeper | undefined;
  let isStopped = false;
  const ended = async (): Promise<void> => {
    const before = keeper;
    keeper = undefined;
    await before?.close();
  };

  return {
    activities,
    follow: (client) => {
      if (isStopped) return;
      // The one before has a client whose connection is gone.
      ended().catch((error: unknown) => warn('could not end following hostnames', error));
      keeper = createCertificateKeeper({
        kv,
        workflows: certificateWorkflowsOf(client),
        isPublic,
        covers,
        warn,
      });
    },
    stop: async () => {
      isStopped = true;
      await ended();
    },
  };
};
