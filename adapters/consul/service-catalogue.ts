/**
 * Services and checks in Consul's catalogue, on whatever node, with a token that may write them all.
 *
 * Invariants: reads are consistent, as rights are decided by them; a service is replaced in one transaction, so that
 * nobody sees it missing; every failure to reach Consul is `unavailable`, and a token that lacks the right as well.
 */

import type { KvOperation } from '../../contracts/key-value-store';
import type {
  CatalogueCheck,
  CatalogueOperation,
  CheckStatus,
  ServiceCatalogue,
} from '../../contracts/service-catalogue';
import { ContainerOsError } from '../../domain/errors';

import type { ConsulClient } from './consul-client';
import {
  assertOperationCount,
  conflictOf,
  kvOnWire,
  writtenIndexOf,
  type TransactionAnswer,
} from './transactions';

const TIMEOUT_MS = 8_000;

interface RawCheck {
  readonly Node: string;
  readonly CheckID: string;
  readonly Name: string;
  readonly Status: CheckStatus;
  readonly Notes: string;
  readonly Output: string;
  readonly ServiceID: string;
  readonly ServiceName: string;
  readonly ModifyIndex: number;
}

interface RawServices {
  readonly Node: object | null;
  readonly Services:
    | readonly {
        readonly ID: string;
        readonly Service: string;
        readonly Meta: Readonly<Record<string, string>> | null;
      }[]
    | null;
}

const checkOf = (raw: RawCheck): CatalogueCheck => ({
  id: raw.CheckID,
  node: raw.Node,
  serviceId: raw.ServiceID,
  serviceName: raw.ServiceName,
  name: raw.Name,
  status: raw.Status,
  output: raw.Output,
  notes: raw.Notes,
  index: raw.ModifyIndex,
});

const checkOnWire = (verb: 'set' | 'cas', check: CatalogueCheck): object => ({
  Check: {
    Verb: verb,
    Check: {
      Node: check.node,
      CheckID: check.id,
      Name: check.name,
      Status: check.status,
      Notes: check.notes,
      Output: check.output,
      ServiceID: check.serviceId,
      ServiceName: check.serviceName,
      ...(verb === 'cas' ? { ModifyIndex: check.index } : {}),
    },
  },
});

const onWire = (operation: KvOperation | CatalogueOperation): readonly object[] => {
  switch (operation.kind) {
    case 'putService':
    case 'createService': {
      const { node, service, checks } = operation;
      const wire = {
        ID: service.id,
        Service: service.name,
        Tags: service.tags,
        Meta: service.meta,
        Address: service.address,
        Port: service.port,
      };
      const written =
        operation.kind === 'createService'
          ? [{ Service: { Verb: 'cas', Node: node, Service: { ...wire, ModifyIndex: 0 } } }]
          : [
              // Its checks go with it, those that are not among the new ones.
              { Service: { Verb: 'delete', Node: node, Service: wire } },
              { Service: { Verb: 'set', Node: node, Service: wire } },
            ];
      return [
        ...written,
        ...checks.map((check) =>
          checkOnWire('set', {
            ...check,
            node,
            serviceId: service.id,
            serviceName: service.name,
            index: 0,
          }),
        ),
      ];
    }
    case 'removeService': {
      const { node, serviceId, serviceName } = operation;
      return [{ Service: { Verb: 'delete', Node: node, Service: { ID: serviceId, Service: serviceName } } }];
    }
    case 'replaceCheck':
      return [checkOnWire('cas', operation.check)];
    case 'set':
    case 'create':
    case 'replace':
    case 'unchanged':
    case 'delete':
    case 'deletePrefix':
      return [kvOnWire(operation)];
  }
};

const filterOf = (field: string, values: readonly string[] | undefined): { readonly filter?: string } =>
  values === undefined || values.length === 0
    ? {}
    : { filter: values.map((value) => `${field} == ${JSON.stringify(value)}`).join(' or ') };

export const createServiceCatalogue = (consul: ConsulClient): ServiceCatalogue => {
  const checksAt = async (path: string, filter = {}): Promise<readonly CatalogueCheck[]> => {
    const { body } = await consul.request<readonly RawCheck[] | null>({
      path,
      query: { consistent: true, ...filter },
      timeoutMs: TIMEOUT_MS,
    });
    return (body ?? []).map(checkOf);
  };

  return {
    services: async (node, ids) => {
      const { body } = await consul.request<RawServices>({
        path: `/catalog/node-services/${encodeURIComponent(node)}`,
        query: { consistent: true, ...filterOf('ID', ids) },
        timeoutMs: TIMEOUT_MS,
      });
      if (body.Node === null) return undefined;
      return (body.Services ?? []).map(({ ID, Service, Meta }) => ({
        id: ID,
        name: Service,
        meta: Meta ?? {},
      }));
    },
    checksOfNode: (node, serviceIds) =>
      checksAt(`/health/node/${encodeURIComponent(node)}`, filterOf('ServiceID', serviceIds)),
    checksOfService: (name) => checksAt(`/health/checks/${encodeURIComponent(name)}`),
    transact: async (operations) => {
      const wire = operations.flatMap((operation) =>
        onWire(operation).map((item) => ({ item, key: 'key' in operation ? operation.key : '' })),
      );
      assertOperationCount(wire.length);
      const { status, body } = await consul.request<TransactionAnswer>({
        method: 'PUT',
        path: '/txn',
        body: wire.map(({ item }) => item),
        timeoutMs: TIMEOUT_MS,
      });
      if (status === 200) return { kind: 'written', index: writtenIndexOf(body) };
      try {
        return conflictOf(body, (index) => wire[index]?.key ?? '');
      } catch (error) {
        throw new ContainerOsError(
          'unavailable',
          `Consul at ${consul.address} did not write: ${(error as Error).message}. Give its token the right to write services.`,
          [],
          { cause: error },
        );
      }
    },
  };
};
