/** Named schemas of the OpenAPI document, made from zod. */

import { z } from 'zod';

import { containerSchema, microserviceSpecSchema } from '../domain/spec/schema';

import { execRequestSchema, execResultSchema } from './exec-schemas';
import { dryRunSchema } from './dry-run-schema';
import {
  hookRequestSchema,
  madeWebhookSchema,
  unchangedHookSchema,
  webhookListSchema,
  webhookRequestSchema,
  webhookSchema,
} from './webhook-schemas';
import {
  aboutSchema,
  emptyRequestSchema,
  eventListSchema,
  eventSchema,
  healthSchema,
  authoritySchema,
  certificateListSchema,
  certificateRequestSchema,
  certificateSchema,
  joinTokenListSchema,
  joinTokenRequestSchema,
  joinTokenSchema,
  logLineSchema,
  madeJoinTokenSchema,
  maintenanceRequestSchema,
  maintenanceSchema,
  microserviceListSchema,
  microserviceSchema,
  nodeListSchema,
  nodeSchema,
  operationListSchema,
  operationSchema,
  patchRequestSchema,
  placementSchema,
  problemSchema,
  releaseListSchema,
  releaseSchema,
  removedNodeSchema,
  replicaListSchema,
  replicaSchema,
  rollbackRequestSchema,
  steerRequestSchema,
} from './schemas';

const COMPONENTS = {
  About: aboutSchema,
  Container: containerSchema,
  Empty: emptyRequestSchema,
  DryRun: dryRunSchema,
  HookRequest: hookRequestSchema,
  MadeWebhook: madeWebhookSchema,
  UnchangedHook: unchangedHookSchema,
  Webhook: webhookSchema,
  WebhookList: webhookListSchema,
  WebhookRequest: webhookRequestSchema,
  Event: eventSchema,
  EventList: eventListSchema,
  ExecRequest: execRequestSchema,
  ExecResult: execResultSchema,
  Health: healthSchema,
  Authority: authoritySchema,
  Certificate: certificateSchema,
  CertificateList: certificateListSchema,
  CertificateRequest: certificateRequestSchema,
  JoinToken: joinTokenSchema,
  JoinTokenList: joinTokenListSchema,
  JoinTokenRequest: joinTokenRequestSchema,
  LogLine: logLineSchema,
  MadeJoinToken: madeJoinTokenSchema,
  Maintenance: maintenanceSchema,
  MaintenanceRequest: maintenanceRequestSchema,
  Microservice: microserviceSchema,
  MicroserviceList: microserviceListSchema,
  MicroservicePatch: patchRequestSchema,
  MicroserviceSpec: microserviceSpecSchema,
  Node: nodeSchema,
  NodeList: nodeListSchema,
  Operation: operationSchema,
  OperationList: operationListSchema,
  Placement: placementSchema,
  Problem: problemSchema,
  Release: releaseSchema,
  ReleaseList: releaseListSchema,
  RemovedNode: removedNodeSchema,
  Replica: replicaSchema,
  ReplicaList: replicaListSchema,
  RollbackRequest: rollbackRequestSchema,
  SteerRequest: steerRequestSchema,
} as const;

export type ComponentName = keyof typeof COMPONENTS;

export type JsonSchema = Readonly<Record<string, unknown>>;

const refTo = (name: string): string => `#/components/schemas/${name}`;

export const ref = (name: ComponentName): JsonSchema => ({ $ref: refTo(name) });

const EXAMPLE_SPEC = {
  name: 'test-server',
  scale: 2,
  containers: { reg: { image: 'quay.io/bitnami/nginx:latest', httpPorts: { '80': 'hello.localhost' } } },
};

/** What zod adds for documents that stand alone. */
const withoutHead = (schema: JsonSchema): JsonSchema =>
  Object.fromEntries(
    Object.entries(schema).filter(([key]) => key !== '$schema' && key !== '$id' && key !== 'id'),
  );

export const componentSchemas = (): Readonly<Record<string, JsonSchema>> => {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(COMPONENTS)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { target: 'draft-2020-12', io: 'input', uri: refTo });
  return Object.fromEntries(
    Object.entries(schemas)
      .map(([name, schema]) => [name, withoutHead(schema)] as const)
      .map(([name, schema]) => [
        name,
        name === 'MicroserviceSpec' ? { ...schema, example: EXAMPLE_SPEC } : schema,
      ]),
  );
};

/** The schema of one query parameter. */
export const parameterSchema = (schema: z.ZodType): JsonSchema =>
  withoutHead(z.toJSONSchema(schema, { target: 'draft-2020-12', io: 'input' }));
