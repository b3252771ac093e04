/** What the API is made of; workers/ puts it together. */

import type { Logger } from 'pino';
import type { Registry } from 'prom-client';

import type { CertificateMaterial, CertificateStore } from '../contracts/certificates';
import type { KeyValueStore } from '../contracts/key-value-store';

import type { RetryCertificate } from './certificate-retry';
import type { Changes } from './changes';
import type { ExecLog } from './exec-log';
import type { JoinTokensDeps } from './join/join-tokens';
import type { MaintenanceWriter } from './maintenance';
import type { NodeSettingsWriter } from './node-settings';
import type { ReservedPort } from '../domain/spec/public-ports';
import type { NodeRemover } from './remove-node';
import type { NodeStreams } from './node-streams';
import type { Operations } from './operations';
import type { ReadModel } from './read-model';
import type { RouteConfirmation } from './route-confirmation';
import type { WebUiLink } from './views';

export interface ApiConfig {
  readonly version: string;
  /** The password of people. */
  readonly password: string;
  /** The token of node workers, for /internal. */
  readonly internalToken: string;
  /** Names and addresses by which this API may be called, beside loopback and whatever address was dialled. */
  readonly allowedHosts: readonly string[];
  /** Whether containers may have the host (privileged, host paths, host network). */
  readonly allowHostAccess: boolean;
  /** Public ports that nobody may ask for, because ContainerOS itself has them. */
  readonly reservedPorts?: readonly ReservedPort[];
  /** Base of the Temporal Web UI, like http://127.0.0.1:8233; links are left out when it is not known. */
  readonly webUiUrl?: string;
  readonly temporalNamespace: string;
  /** Port of the ingress of this machine, if it has one. */
  readonly httpPort?: number;
  /** As httpPort, for HTTPS. */
  readonly httpsPort?: number;
}

export interface ApiCertificates {
  readonly store: Pick<CertificateStore, 'list' | 'write' | 'remove'>;
  /** Looks at what people bring. @throws {ContainerOsError} `invalid`, with every problem; `too_large` */
  readonly check: (given: {
    readonly hostname: string;
    readonly certificate: string;
    readonly privateKey: string;
    readonly nowMs: number;
  }) => CertificateMaterial;
  /** Of the authority for private hostnames; undefined before it is made. */
  readonly rootPem: () => Promise<string | undefined>;
  /** Whether a public authority may be asked for it. */
  readonly isPublic: (hostname: string) => boolean;
  /** Whether an authority is asked for one as soon as a microservice has the hostname. */
  readonly willBeIssued: (hostname: string) => boolean;
  readonly retry: RetryCertificate;
}

export interface ApiDeps {
  readonly config: ApiConfig;
  readonly readModel: ReadModel;
  readonly operations: Operations;
  readonly changes: Changes;
  /** What the API keeps itself, and what it reads that the read model does not follow. */
  readonly store: KeyValueStore;
  readonly nodeStreams: NodeStreams;
  readonly execLog: ExecLog;
  readonly joining: Omit<JoinTokensDeps, 'nowMs'>;
  readonly nodeSettings: NodeSettingsWriter;
  readonly maintenance: MaintenanceWriter;
  readonly routesConfirmed: RouteConfirmation;
  readonly nodeRemover: NodeRemover;
  readonly certificates: ApiCertificates;
  /** What keeps ContainerOS from working, for people; empty when nothing does. Called for each /readyz. */
  readonly notReady: () => Promise<readonly string[]>;
  readonly log: Logger;
  /** Where the API's metrics go; others may be there too. */
  readonly metrics: Registry;
  readonly nowMs: () => number;
  /** Aborts when the server is about to close: waiting requests are answered, streams end. */
  readonly closing: AbortSignal;
}

/** What routes are made of. */
export interface RouteDeps extends ApiDeps {
  readonly webUi: WebUiLink;
}
