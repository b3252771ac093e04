/**
 * The local Consul agent: services and checks that this machine registers, and how the catalogue sees them.
 *
 * Invariants: everything here may be repeated; a service that is registered again has exactly the checks given.
 */

import type { CheckStatus } from '../../contracts/service-catalogue';

import type { ConsulClient, ConsulResponse, ConsulWait } from './consul-client';

export type HealthStatus = CheckStatus;

export interface AgentCheckDefinition {
  readonly CheckID: string;
  readonly Name: string;
  readonly HTTP?: string;
  readonly Method?: string;
  readonly TCP?: string;
  readonly TTL?: string;
  readonly Interval?: string;
  readonly Timeout?: string;
  readonly Status?: HealthStatus;
  readonly FailuresBeforeCritical?: number;
}

export interface AgentServiceDefinition {
  readonly ID: string;
  readonly Name: string;
  readonly Tags: readonly string[];
  readonly Meta: Readonly<Record<string, string>>;
  readonly Address: string;
  readonly Port: number;
  readonly Checks: readonly AgentCheckDefinition[];
}

export interface AgentService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags: readonly string[] | null;
  readonly Meta: Readonly<Record<string, string>> | null;
  readonly Address: string;
  readonly Port: number;
}

export interface NodeCheck {
  readonly CheckID: string;
  readonly Name: string;
  readonly Status: HealthStatus;
  readonly Output: string;
  readonly ServiceID: string;
}

export interface ConsulAgent {
  nodeName(): Promise<string>;
  /** Services of this agent whose `Meta` has this value. */
  services(metaKey: string, value: string): Promise<readonly AgentService[]>;
  register(service: AgentServiceDefinition): Promise<void>;
  /** False when there was no such service. */
  deregister(serviceId: string): Promise<boolean>;
  report(checkId: string, status: HealthStatus, output: string): Promise<void>;
  /** Waits for a change when `index` is above 0. */
  nodeChecks(
    nodeName: string,
    wait?: ConsulWait & { readonly signal: AbortSignal },
  ): Promise<ConsulResponse<readonly NodeCheck[]>>;
}

export const createConsulAgent = (consul: ConsulClient): ConsulAgent => ({
  nodeName: async () => {
    const { body } = await consul.request<{ readonly Config: { readonly NodeName: string } }>({
      path: '/agent/self',
    });
    return body.Config.NodeName;
  },
  services: async (metaKey, value) => {
    const { body } = await consul.request<Readonly<Record<string, AgentService>>>({
      path: '/agent/services',
      query: { filter: `Meta[${JSON.stringify(metaKey)}] == ${JSON.stringify(value)}` },
    });
    return Object.values(body);
  },
  register: async (service) => {
    await consul.request({
      method: 'PUT',
      path: '/agent/service/register',
      query: { 'replace-existing-checks': true },
      body: service,
    });
  },
  deregister: async (serviceId) => {
    const { status } = await consul.request({
      method: 'PUT',
      path: `/agent/service/deregister/${encodeURIComponent(serviceId)}`,
    });
    return status !== 404;
  },
  report: async (checkId, status, output) => {
    await consul.request({
      method: 'PUT',
      path: `/agent/check/update/${encodeURIComponent(checkId)}`,
      body: { Status: status, Output: output },
    });
  },
  nodeChecks: (nodeName, wait) =>
    consul.request({
      path: `/health/node/${encodeURIComponent(nodeName)}`,
      ...(wait === undefined
        ? {}
        : {
            wait,
            signal: wait.signal,
          }),
    }),
});
