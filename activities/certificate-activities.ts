/**
 * What the workflow of a certificate asks for: looking, ordering, proving, finishing, and telling how it stands.
 *
 * Invariants: each may be cut off anywhere and run again; what has to be taken back is written down before it is
 * published; only hostnames of known microservices are ever asked for.
 */

import type { KeyValueStore } from '../contracts/key-value-store';
import type { CertificateAuthority, CertificateStatus } from '../contracts/acme';
import type { Certificate, CertificateStore } from '../contracts/certificates';
import type { CertificateActivities, CertificateLook, ToldFailure } from '../contracts/certificate-workflow';
import { knownOwnerOf } from '../contracts/hostname-owners';
import { certificateStatusKvKey, eventKvKey } from '../contracts/kv';
import { CERTIFICATE } from '../contracts/timeouts';
import { IssueError, timeText } from '../domain/certificates/acme-problem';
import { covers, reliedOn } from '../domain/certificates/relied-on';
import { nextAttemptAtMs, reliesUntilMs, renewAtMs } from '../domain/certificates/renewal';
import type { ClusterEvent } from '../domain/model';

import { throwingFailures } from './activity-error';
import { createCertificateOrders, type CertificateOrdersDependencies } from './certificate-orders';

export interface CertificateActivitiesDependencies extends CertificateOrdersDependencies {
  readonly store: Pick<KeyValueStore, 'get' | 'list' | 'transact'>;
  readonly certificates: CertificateStore;
  /** In the order in which they are asked; none: nobody is asked. */
  readonly authorities: readonly CertificateAuthority[];
  /** Whether a public authority may be asked for it at all. */
  readonly isPublic: (hostname: string) => boolean;
  readonly nowMs: () => number;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
}

/** Thrown errors are failures whose `type` is a code of the error table, or defects. */
export const createCertificateActivities = (
  deps: CertificateActivitiesDependencies,
): CertificateActivities => {
  const { store, certificates, authorities, nowMs } = deps;

  const uploadedFor = async (hostname: string): Promise<Certificate | undefined> =>
    reliedOn(await certificates.list(), hostname, nowMs());

  const suggestionOf = async (
    authority: CertificateAuthority,
    chainPem: string,
  ): ReturnType<CertificateAuthority['renewalInfo']> => {
    try {
      return await authority.renewalInfo(chainPem);
    } catch (error) {
      // Two thirds of the lifetime are as good a time; it is asked again.
      if (error instanceof IssueError) return undefined;
      throw error;
    }
  };

  const whatIsHeld = async (hostname: string): Promise<CertificateLook | { readonly reason: string }> => {
    const held = await certificates.read(hostname);
    if (held === undefined) return { reason: 'there is none that can be used' };
    if (held.source !== 'acme') return { reason: `there is none of a public authority that lasts` };
    if (!covers(held.hostnames, hostname)) return { reason: 'what there is, is for other names' };
    const authority = authorities.find(({ directory }) => directory === held.directory);
    if (authority === undefined) {
      return { reason: `what there is, is from ${held.issuer}, which is asked no more` };
    }
    const suggested = await suggestionOf(authority, held.chainPem);
    const atMs = renewAtMs(hostname, held, suggested?.window);
    if (atMs <= nowMs()) {
      const isEarly = suggested !== undefined && renewAtMs(hostname, held) > nowMs();
      const why = suggested?.explanationUrl === undefined ? '' : ` (${suggested.explanationUrl})`;
      return {
        reason: isEarly
          ? `${authority.name} wants it renewed${why}, as when it is revoked`
          : `what there is ends at ${timeText(held.notAfterMs)}`,
      };
    }
    const againAtMs = suggested?.askAgainAtMs ?? nowMs() + CERTIFICATE.lookEveryMs;
    return {
      kind: 'held',
      message: `${held.issuer} has issued it, valid until ${timeText(held.notAfterMs)}; it is renewed about ${timeText(atMs)}.`,
      renewAtMs: atMs,
      lookAgainAtMs: Math.min(atMs, againAtMs),
    };
  };

  const publish = async (status: Omit<CertificateStatus, 'updatedAtMs'>, events: readonly ClusterEvent[]) => {
    await store.transact([
      {
        kind: 'set',
        key: certificateStatusKvKey(status.hostname),
        value: { ...status, updatedAtMs: nowMs() },
      },
      ...events.map((event) => ({
        kind: 'set' as const,
        key: eventKvKey(event.atMs, deps.randomSuffix()),
        value: event,
      })),
    ]);
  };

  const statusOf = async (hostname: string): Promise<CertificateStatus | undefined> =>
    (await store.get<CertificateStatus>(certificateStatusKvKey(hostname)))?.value;

  const eventOf = async (
    hostname: string,
    level: ClusterEvent['level'],
    type: string,
    message: string,
  ): Promise<ClusterEvent> => {
    const owner = await knownOwnerOf(store, hostname);
    return {
      atMs: nowMs(),
      level,
      type,
      message,
      ...(owner === undefined ? {} : { project: owner.project, microservice: owner.name }),
    };
  };

  const attemptAfter = ({ hostname, failure, failures, isCounted, isWaiting }: ToldFailure): number =>
    isWaiting && failure.notBeforeMs !== undefined
      ? Math.max(failure.notBeforeMs, nowMs())
      : nextAttemptAtMs({
          hostname,
          kind: failure.kind,
          failures,
          isCounted,
          nowMs: nowMs(),
          ...(failure.notBeforeMs === undefined ? {} : { notBeforeMs: failure.notBeforeMs }),
        });

  return throwingFailures<CertificateActivities>({
    lookAtCertificate: async ({ hostname }) => {
      if (!deps.isPublic(hostname)) return { kind: 'nobody' };
      if ((await knownOwnerOf(store, hostname)) === undefined) return { kind: 'nobody' };
      const uploaded = await uploadedFor(hostname);
      if (uploaded !== undefined) {
        return {
          kind: 'uploaded',
          untilMs: reliesUntilMs(uploaded),
          message: `A certificate for ${uploaded.hostname} was uploaded, valid until ${timeText(uploaded.notAfterMs)}; none is asked for before ${timeText(reliesUntilMs(uploaded))}.`,
        };
      }
      if (authorities.length === 0) {
        return { kind: 'off', reason: 'No authority is asked for certificates here (--no-acme, --dev).' };
      }
      const held = await whatIsHeld(hostname);
      if ('kind' in held) return held;
      const challenge = await deps.challengeFor(hostname);
      if (challenge === undefined) {
        return {
          kind: 'off',
          reason:
            'A wildcard is proved by a record in DNS: give --dns-provider the provider that answers for the domain, or upload a certificate.',
        };
      }
      const directories = authorities.map(({ directory }) => directory);
      return { kind: 'due', reason: held.reason, challenge, directories };
    },

    ...createCertificateOrders(deps),

    tellCertificateState: async ({ hostname, state, message, renewAtMs: atMs, failures }) => {
      const before = await statusOf(hostname);
      const { lastError } = before ?? {};
      // Who has asked for a wildcard may not know what it takes; that nobody is asked at all was said at the start.
      const isNews = state === 'off' && before?.state !== 'off' && authorities.length > 0;
      const events = isNews
        ? [
            await eventOf(
              hostname,
              'warning',
              'certificate.off',
              `no certificate for ${hostname}. ${message}`,
            ),
          ]
        : [];
      await publish(
        {
          hostname,
          state,
          message,
          failures,
          ...(atMs === undefined ? {} : { renewAtMs: atMs }),
          // Of what went well, nobody has to be told what went wrong before.
          ...(lastError === undefined || state !== 'issuing' ? {} : { lastError }),
        },
        events,
      );
    },

    tellCertificateFailure: async (told) => {
      const { hostname, failure, failures, isWaiting } = told;
      const atMs = attemptAfter(told);
      const lastError: CertificateStatus['lastError'] = {
        kind: failure.kind,
        message: failure.message,
        atMs: nowMs(),
      };
      const before = await statusOf(hostname);
      // The first of them; told once, also when this is run again.
      const isNews = failures === 1 && !isWaiting && before?.failures !== 1;
      const event = await eventOf(
        hostname,
        'warning',
        'certificate.failed',
        `no certificate for ${hostname} yet; it is tried again. ${failure.message}`,
      );
      await publish(
        {
          hostname,
          state: isWaiting ? 'waiting' : 'failed',
          message: failure.message,
          nextAttemptAtMs: atMs,
          failures,
          ...(isWaiting ? {} : { lastError }),
        },
        isNews ? [event] : [],
      );
      return { nextAttemptAtMs: atMs };
    },

    tellCertificateIssued: async ({ hostname, issuer, notAfterMs, failures }) => {
      const message = `${issuer} has issued it, valid until ${timeText(notAfterMs)}.`;
      const before = await statusOf(hostname);
      const isTold = before?.state === 'issued' && before.message === message;
      const after =
        failures === 0 ? '' : `, after ${failures} failed ${failures === 1 ? 'attempt' : 'attempts'}`;
      const event = await eventOf(
        hostname,
        'info',
        'certificate.issued',
        `${issuer} has issued a certificate for ${hostname}, valid until ${timeText(notAfterMs)}${after}`,
      );
      await publish({ hostname, state: 'issued', message, failures: 0 }, isTold ? [] : [event]);
    },

    forgetCertificateState: async ({ hostname }) => {
      await store.transact([{ kind: 'delete', key: certificateStatusKvKey(hostname) }]);
    },
  });
};
