/** What a node worker has to know. */

import type { ReservedPort } from '../../domain/spec/public-ports';
import type { Sealer } from '../../adapters/certificates/seal';
import type { NodeCredentials } from '../../adapters/cluster-port/port-client';
import type { CaddySettings } from '../../adapters/ingress/caddy-config';

export interface IngressFiles {
  readonly settings: CaddySettings;
  /** What Caddy starts with. */
  readonly configFile: string;
  /** What certificates of hostnames are opened with. @param isAnew whether what was given before does not fit */
  readonly openSealer: (how: { readonly isAnew: boolean }) => Promise<Sealer>;
  /** Public ports that this machine does not open. */
  readonly reservedPorts: readonly ReservedPort[];
  /** Told whether there are public ports, for which a forwarder has to run beside. */
  readonly onPublicPorts: (areThere: boolean) => void;
}

export interface NodeConfig {
  readonly nodeId: string;
  /** Id of the ContainerOS installation: the worker touches nothing that belongs to another one. */
  readonly clusterId: string;
  readonly dockerSocketPath: string;
  /** The local Consul agent, like http://127.0.0.1:8500. */
  readonly consulUrl: string;
  /** ACL token for it. */
  readonly consulToken?: string | undefined;
  /** host:port */
  readonly temporalAddress: string;
  readonly namespace: string;
  /** Address that host ports are bound to, and under which others reach them. */
  readonly advertiseAddress: string;
  readonly hostPortRange: { readonly first: number; readonly last: number };
  /** Where the API is, for the streams that the node opens to it. */
  readonly apiUrl: string;
  /** What the API on the same machine knows the node worker by. */
  readonly internalToken?: string;
  /**
   * Of a node that has joined: what it shows at the cluster port, which `apiUrl` and `temporalAddress` are then. Asked
   * for each connection, so that a renewed certificate is used from then on.
   */
  readonly credentials?: () => NodeCredentials;
  readonly dataDir: string;
  /** The program that guards exclusive replicas; left out: the one that was built with this one. */
  readonly leaseGuardProgram?: string;
  /** How the ingress of this machine is run; left out: there is none. */
  readonly ingress?: IngressFiles;
  /** For placement constraints. */
  readonly labels?: Readonly<Record<string, string>>;
}
