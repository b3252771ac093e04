/**
 * Which services a node may have written, and what becomes of its wishes in the catalogue. Pure.
 *
 * Invariants: the Consul node is the certificate's, whatever is sent; a service is of a replica of that node, has the
 * names that this replica's microservice may have and the address of the node, or is the node's own; every check is a
 * check of such a service and says so in its id; what others have put into the catalogue is not touched.
 */

import { z } from 'zod';

import { SERVICE_META } from '../../contracts/docker';
import { replicaKvKey } from '../../contracts/kv';
import {
  MAX_CHECK_OUTPUT_CHARACTERS,
  MAX_NODE_SERVICES,
  MAX_SERVICE_CHECKS,
  type NodeService,
  type NodeServiceWrite,
  type NodeWrite,
} from '../../contracts/node-documents';
import type { CatalogueCheck, CatalogueOperation, CatalogueService } from '../../contracts/service-catalogue';
import {
  NODE_SERVICE,
  NODE_SERVICE_CLUSTER,
  nodeAliveCheckId,
  nodeServiceId,
  portServiceId,
  portServiceNames,
} from '../../contracts/services';
import { ContainerOsError } from '../../domain/errors';

import { LIVENESS_NOTES } from './node-liveness';

export interface Holder {
  /** Of the certificate. */
  readonly nodeId: string;
  readonly clusterId: string;
}

const serviceIdSchema = z
  .string()
  .max(256)
  .regex(/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/);
const checkIdSchema = z
  .string()
  .max(320)
  .regex(/^[A-Za-z0-9._:-]+$/);
const statusSchema = z.enum(['passing', 'warning', 'critical']);

const serviceWriteSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('putService'),
    service: z.strictObject({
      id: serviceIdSchema,
      name: z
        .string()
        .max(256)
        .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/),
      tags: z.array(z.string().min(1).max(128)).max(16),
      meta: z
        .record(z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/), z.string().max(512))
        .refine((meta) => Object.keys(meta).length <= 32, { message: 'may have 32 keys at most' }),
      address: z.string().min(1).max(255),
      port: z.int().min(0).max(65_535),
      checks: z
        .array(z.strictObject({ id: checkIdSchema, name: z.string().max(512), status: statusSchema }))
        .max(MAX_SERVICE_CHECKS),
    }),
  }),
  z.strictObject({
    kind: z.literal('reportCheck'),
    serviceId: serviceIdSchema,
    checkId: checkIdSchema,
    status: statusSchema,
    output: z.string().max(MAX_CHECK_OUTPUT_CHARACTERS),
  }),
  z.strictObject({ kind: z.literal('removeService'), serviceId: serviceIdSchema }),
]);

export const isServiceWrite = (write: NodeWrite): write is NodeServiceWrite =>
  write.kind === 'putService' || write.kind === 'reportCheck' || write.kind === 'removeService';

export const isServiceKind = (kind: unknown): boolean =>
  serviceWriteSchema.options.some(({ shape }) => shape.kind.value === kind);

/**
 * @param at its place among the writes
 * @throws {ContainerOsError} `invalid`
 */
export const parseServiceWrite = (value: unknown, at: number): NodeServiceWrite => {
  const parsed = serviceWriteSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = ['', 'writes', at, ...(issue?.path ?? [])].join('/');
  throw new ContainerOsError('invalid', `${path}: ${issue?.message ?? 'is no write of a service'}.`);
};

const refused = (code: 'invalid' | 'forbidden' | 'unavailable' | 'too_large', id: string, words: string) =>
  new ContainerOsError(code, `The write of the service ${id} is refused: ${words}.`);

const portOf = (meta: Readonly<Record<string, string>>) => {
  const text = meta[SERVICE_META.port] ?? '';
  const port = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : undefined;
  switch (meta[SERVICE_META.protocol]) {
    case 'tcp':
    case 'http':
      return port === undefined ? undefined : ({ port, protocol: 'tcp' } as const);
    case 'udp':
      return port === undefined ? undefined : ({ port, protocol: 'udp' } as const);
    case undefined:
    default:
      return undefined;
  }
};

const isNodeService = (meta: Readonly<Record<string, string>>, { nodeId, clusterId }: Holder): boolean =>
  meta[SERVICE_META.node] === nodeId && meta[NODE_SERVICE_CLUSTER] === clusterId;

const isReplicaService = (meta: Readonly<Record<string, string>>, { nodeId, clusterId }: Holder): boolean =>
  meta[SERVICE_META.node] === nodeId && meta[SERVICE_META.cluster] === clusterId;

const assertOwnReplicaService = (service: NodeService, holder: Holder): void => {
  const { id, name, meta } = service;
  const part = (key: string): string => {
    const value = meta[key];
    if (value === undefined || value === '') throw refused('invalid', id, `its metadata has no ${key}`);
    return value;
  };
  if (!isReplicaService(meta, holder)) {
    throw refused('forbidden', id, `its metadata is not of the node ${holder.nodeId} and its cluster`);
  }
  const port = portOf(meta);
  if (port === undefined) throw refused('invalid', id, 'its metadata has no valid port and protocol');
  const own = portServiceId(part(SERVICE_META.replica), part(SERVICE_META.container), port);
  if (id !== own) throw refused('forbidden', id, `that replica's service is called ${own}`);
  const names = portServiceNames(
    { project: part(SERVICE_META.project), name: part(SERVICE_META.microservice) },
    port,
  );
  if (name === NODE_SERVICE || (name !== names.first && name !== names.further)) {
    throw refused('forbidden', id, `it may have the name ${names.first} or ${names.further}, not ${name}`);
  }
  if (service.port === 0) throw refused('invalid', id, 'it has no port');
};

const assertOwnNodeService = ({ id, name, meta }: NodeService, holder: Holder): void => {
  if (name !== NODE_SERVICE) throw refused('forbidden', id, `it may have the name ${NODE_SERVICE} only`);
  if (!isNodeService(meta, holder)) {
    throw refused('forbidden', id, `its metadata is not of the node ${holder.nodeId} and its cluster`);
  }
};

const assertOwnCheck = (serviceId: string, checkId: string): void => {
  if (checkId.startsWith(`${serviceId}:`) && checkId.length > serviceId.length + 1) return;
  throw refused('forbidden', serviceId, `the check ${checkId} is not one of it`);
};

/**
 * Checks what can be told from the write alone.
 *
 * @throws {ContainerOsError} `forbidden`, or `invalid`
 */
export const assertOwnService = (write: NodeServiceWrite, holder: Holder): void => {
  switch (write.kind) {
    case 'putService': {
      const { id, checks } = write.service;
      if (id === nodeServiceId(holder.nodeId)) assertOwnNodeService(write.service, holder);
      else assertOwnReplicaService(write.service, holder);
      for (const check of checks) assertOwnCheck(id, check.id);
      if (new Set(checks.map((check) => check.id)).size < checks.length) {
        throw refused('invalid', id, 'its checks name one twice');
      }
      return;
    }
    case 'reportCheck':
      return assertOwnCheck(write.serviceId, write.checkId);
    case 'removeService':
      return; // whose it is stands in the catalogue
  }
};

/** The key of the document that has to say that the service's replica is the node's; none for the node's own service. */
export const replicaKeyOf = ({ id, meta }: NodeService, { nodeId }: Holder): string | undefined =>
  id === nodeServiceId(nodeId)
    ? undefined
    : replicaKvKey(
        { project: meta[SERVICE_META.project] ?? '', name: meta[SERVICE_META.microservice] ?? '' },
        meta[SERVICE_META.replica] ?? '',
      );

/** What is known when the services of a node are decided on. */
export interface ServiceFacts extends Holder {
  /** As the node's document says; undefined when there is none. */
  readonly address: string | undefined;
  /** Whether the document under this key says that the replica is the node's. */
  ownsReplica(key: string): boolean;
  /** What the catalogue has of the node; undefined when it does not have the node. */
  readonly services: readonly Pick<CatalogueService, 'id' | 'name' | 'meta'>[] | undefined;
  readonly checks: readonly CatalogueCheck[];
}

export interface ServicePlan {
  readonly operations: readonly CatalogueOperation[];
  /** Checks and services that were named and are not there. */
  readonly absent: readonly string[];
}

/**
 * @param writes that `assertOwnService` has let through
 * @throws {ContainerOsError} `forbidden`; `too_large` for too many services; `unavailable` for what may be so later
 */
export const planServices = (writes: readonly NodeServiceWrite[], facts: ServiceFacts): ServicePlan => {
  const { nodeId, services } = facts;
  if (services === undefined) {
    throw new ContainerOsError(
      'unavailable',
      `Consul's catalogue has no node ${nodeId} yet, so that no service can be on it. A server of Consul registers it when its agent has joined: look at the agent on that machine if this goes on.`,
    );
  }
  const known = new Map(services.map((service) => [service.id, service]));
  /** The service that stands there, if it is one of ours. */
  const own = (id: string) => {
    const found = known.get(id);
    if (found === undefined) return undefined;
    const isOwn = id === nodeServiceId(nodeId) ? isNodeService : isReplicaService;
    if (isOwn(found.meta, facts)) return found;
    throw refused('forbidden', id, 'the one that stands there is not of ContainerOS');
  };
  const operations: CatalogueOperation[] = [];
  const absent: string[] = [];
  for (const write of writes) {
    switch (write.kind) {
      case 'putService': {
        const { checks, ...service } = write.service;
        own(service.id);
        assertPlace(write.service, facts);
        operations.push({
          kind: 'putService',
          node: nodeId,
          service,
          checks: checks.map((check) => ({
            ...check,
            output: '',
            notes: check.id === nodeAliveCheckId(nodeId) ? LIVENESS_NOTES : '',
          })),
        });
        known.set(service.id, service);
        break;
      }
      case 'removeService': {
        const found = own(write.serviceId);
        if (found === undefined) absent.push(write.serviceId);
        else {
          known.delete(found.id);
          operations.push({
            kind: 'removeService',
            node: nodeId,
            serviceId: found.id,
            serviceName: found.name,
          });
        }
        break;
      }
      case 'reportCheck': {
        const { checkId, serviceId, status, output } = write;
        const check = facts.checks.find(({ id }) => id === checkId);
        if (own(serviceId) === undefined || check?.serviceId !== serviceId) absent.push(checkId);
        else if (check.status !== status || check.output !== output) {
          operations.push({ kind: 'replaceCheck', check: { ...check, status, output } });
        }
        break;
      }
    }
  }
  if (known.size > MAX_NODE_SERVICES && writes.some(({ kind }) => kind === 'putService')) {
    throw new ContainerOsError(
      'too_large',
      `The node ${nodeId} may have ${MAX_NODE_SERVICES} services at most. Let it run fewer replicas.`,
    );
  }
  return { operations, absent };
};

const assertPlace = (service: NodeService, facts: ServiceFacts): void => {
  const { nodeId, address } = facts;
  const key = replicaKeyOf(service, facts);
  if (key !== undefined && !facts.ownsReplica(key)) {
    throw refused(
      'unavailable',
      service.id,
      `no document says that its replica is on the node ${nodeId}. The node has to send that first`,
    );
  }
  if (address === undefined) {
    throw refused(
      'unavailable',
      service.id,
      `the node ${nodeId} has no document yet, which says its address. It sends one when its Docker Engine answers`,
    );
  }
  if (service.address !== address) {
    throw refused(
      'forbidden',
      service.id,
      `its address ${service.address} is not that of the node ${nodeId}, ${address}`,
    );
  }
};
