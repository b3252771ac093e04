/**
 * The services of a node that has no right to register any: written through the cluster port, read through the local
 * Consul agent.
 *
 * Invariants: as of ConsulAgent; what is written is in the catalogue when its promise resolves, and no agent knows of
 * it: nobody runs its checks, or lets them expire.
 */

import { MAX_CHECK_OUTPUT_CHARACTERS } from '../../contracts/node-documents';
import { ContainerOsError } from '../../domain/errors';
import { createConsulAgent, type AgentService, type ConsulAgent } from '../consul/consul-agent';
import type { ConsulClient } from '../consul/consul-client';

import type { ClusterPortWriter } from './documents';

export interface ClusterPortAgentDeps {
  readonly writer: Pick<ClusterPortWriter, 'writeService'>;
  /** The local agent, with a token that may read. */
  readonly consul: ConsulClient;
  /** Of the certificate, which is what Consul calls the node too. */
  readonly nodeId: string;
}

/** The id of a service, which has no colon, begins the ids of its checks. */
const serviceOfCheck = (checkId: string): string => checkId.split(':', 1)[0] ?? '';

/** @returns an agent whose `report` rejects with `not_found` for a check that is not in the catalogue */
export const createClusterPortAgent = ({ writer, consul, nodeId }: ClusterPortAgentDeps): ConsulAgent => {
  const local = createConsulAgent(consul);
  return {
    nodeName: () => local.nodeName(),
    nodeChecks: (nodeName, wait) => local.nodeChecks(nodeName, wait),
    services: async (metaKey, value) => {
      // The catalogue leaves a port of 0 out.
      const { body } = await consul.request<{
        readonly Services: readonly (Omit<AgentService, 'Port'> & { readonly Port?: number })[] | null;
      }>({
        path: `/catalog/node-services/${encodeURIComponent(nodeId)}`,
        query: { consistent: true, filter: `Meta[${JSON.stringify(metaKey)}] == ${JSON.stringify(value)}` },
      });
      return (body.Services ?? []).map((service) => ({ ...service, Port: service.Port ?? 0 }));
    },
    register: async ({ ID, Name, Tags, Meta, Address, Port, Checks }) => {
      await writer.writeService({
        kind: 'putService',
        service: {
          id: ID,
          name: Name,
          tags: Tags,
          meta: Meta,
          address: Address,
          port: Port,
          // As an agent does: critical until it is known better.
          checks: Checks.map((check) => ({
            id: check.CheckID,
            name: check.Name,
            status: check.Status ?? 'critical',
          })),
        },
      });
    },
    deregister: (serviceId) => writer.writeService({ kind: 'removeService', serviceId }),
    report: async (checkId, status, output) => {
      const isThere = await writer.writeService({
        kind: 'reportCheck',
        serviceId: serviceOfCheck(checkId),
        checkId,
        status,
        output: output.slice(0, MAX_CHECK_OUTPUT_CHARACTERS),
      });
      if (isThere) return;
      throw new ContainerOsError(
        'not_found',
        `Consul has no check ${checkId} on the node ${nodeId}: its service has to be registered again.`,
      );
    },
  };
};
