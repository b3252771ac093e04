/**
 * Workflows of certificates over activities that do as a test says.
 *
 * Invariant: an activity that a test has said nothing of fails the workflow's attempt, and the journal has it.
 */

import type { Client } from '@temporalio/client';

import {
  CERTIFICATE_SIGNAL,
  CERTIFICATE_WORKFLOW,
  certificateWorkflowId,
  type CertificateActivities,
  type CertificateLook,
} from '../../contracts/certificate-workflow';
import { CONTROL_PLANE_QUEUE } from '../../contracts/queues';

const FIRST = 'https://first.example/dir';
const SECOND = 'https://second.example/dir';
export const DIRECTORIES = [FIRST, SECOND] as const;

const HOUR_MS = 3_600_000;

export const DUE: CertificateLook & { readonly kind: 'due' } = {
  kind: 'due',
  reason: 'there is none that can be used',
  challenge: 'http-01',
  directories: DIRECTORIES,
};

export const heldFor = (ms: number): CertificateLook => ({
  kind: 'held',
  message: 'an authority has issued it',
  renewAtMs: Date.now() + ms,
  lookAgainAtMs: Date.now() + ms,
});

type Behaviour = { [K in keyof CertificateActivities]: CertificateActivities[K] };

/** What one hostname's activities do; all goes well unless a test says otherwise. */
export interface Host {
  readonly hostname: string;
  readonly journal: string[];
  /** Whether there is a certificate, and a microservice. */
  isHeld: boolean;
  isWanted: boolean;
  on: Partial<Behaviour>;
}

export interface Certificates {
  readonly activities: CertificateActivities;
  host(hostname: string): Host;
}

const short = (input: object): string => {
  const { directory, url, state, failure, isWaiting, failures } = input as Readonly<Record<string, unknown>>;
  const { kind } = (failure ?? {}) as { readonly kind?: string };
  return [directory, url, state, kind, isWaiting === true ? 'waiting' : undefined, failures]
    .filter((part) => part !== undefined && part !== 0)
    .map((part) => String(part).replace('https://', '').replace('.example/dir', ''))
    .join(' ');
};

export const createCertificates = (): Certificates => {
  const hosts = new Map<string, Host>();
  let orders = 0;

  const held = heldFor(HOUR_MS);
  const usual = (host: Host): Behaviour => ({
    lookAtCertificate: async () => (!host.isWanted ? { kind: 'nobody' } : host.isHeld ? held : DUE),
    checkPointing: async () => ({}),
    orderCertificate: async ({ directory }) => ({
      kind: 'ordered',
      url: `${directory}/order-${(orders += 1)}`,
    }),
    proveHostname: async () => ({ kind: 'proved' }),
    finishCertificate: async () => {
      host.isHeld = true;
      return { kind: 'issued', issuer: 'Authority', notAfterMs: Date.now() + 24 * HOUR_MS };
    },
    withdrawOrder: async () => undefined,
    tellCertificateState: async () => undefined,
    tellCertificateFailure: async () => ({ nextAttemptAtMs: Date.now() + 20 }),
    tellCertificateIssued: async () => undefined,
    forgetCertificateState: async () => undefined,
  });

  const call = async (name: keyof Behaviour, input: { readonly hostname: string }): Promise<unknown> => {
    const host = hosts.get(input.hostname);
    if (host === undefined) throw new Error(`nobody has prepared ${input.hostname}`);
    host.journal.push(`${name} ${short(input)}`.trim());
    const run = (host.on[name] ?? usual(host)[name]) as (input: object) => Promise<unknown>;
    return run(input);
  };

  const names: readonly (keyof Behaviour)[] = [
    'lookAtCertificate',
    'checkPointing',
    'orderCertificate',
    'proveHostname',
    'finishCertificate',
    'withdrawOrder',
    'tellCertificateState',
    'tellCertificateFailure',
    'tellCertificateIssued',
    'forgetCertificateState',
  ];
  return {
    activities: Object.fromEntries(
      names.map((name) => [name, (input: { readonly hostname: string }) => call(name, input)]),
    ) as unknown as CertificateActivities,
    host: (hostname) => {
      const host: Host = { hostname, journal: [], isHeld: false, isWanted: true, on: {} };
      hosts.set(hostname, host);
      return host;
    },
  };
};

/** As the keeper of the control plane does. */
export const want = (client: Client, hostname: string) =>
  client.workflow.signalWithStart(CERTIFICATE_WORKFLOW, {
    workflowId: certificateWorkflowId(hostname),
    taskQueue: CONTROL_PLANE_QUEUE,
    args: [{ hostname }],
    signal: CERTIFICATE_SIGNAL.hostnameWanted,
    signalArgs: [],
  });
