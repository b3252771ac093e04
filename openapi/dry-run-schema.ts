/** What a dry run answers with, as a zod schema. */

import { z } from 'zod';

import { operationKindSchema } from './schemas';

const count = () => z.int().min(0);

export const dryRunSchema = z
  .strictObject({
    dryRun: z.literal(true),
    kind: operationKindSchema.meta({ description: 'What kind of operation the change would be.' }),
    microservice: z.string(),
    created: z.boolean().meta({ description: 'Whether the change would make the microservice.' }),
    release: count().meta({ description: 'The release that would be wanted then.' }),
    scale: count(),
    changesNothing: z.boolean().meta({ description: 'Whether all is as it would be already.' }),
    stages: z.array(z.string()).meta({
      description: 'In which stages a blue-green or canary release would take over, in words; else none.',
    }),
    plan: z.array(z.string()).meta({
      description:
        'What would be done, a step a line, as the operation would show it; in stages, all that would be until the old release stops. Ids of replicas are examples.',
    }),
    diff: z.array(z.string()).meta({ description: 'What the new release changes, in words.' }),
    pulls: z
      .array(z.strictObject({ node: z.string(), images: z.array(z.string()) }))
      .meta({ description: 'Images that nodes would pull.' }),
    unplaced: count().meta({ description: 'Replicas for which there is no node.' }),
    rejections: z
      .array(z.strictObject({ node: z.string(), reason: z.string() }))
      .meta({ description: 'Why nodes would not take a replica, or another one.' }),
    hostnames: z
      .array(
        z.strictObject({
          hostname: z.string(),
          change: z.enum(['added', 'removed', 'moved']),
          from: z.string().optional().meta({ description: 'The microservice that it would be moved from.' }),
        }),
      )
      .meta({ description: 'What would become of hostnames; those that stay are left out.' }),
    publicPorts: z
      .array(
        z.strictObject({
          port: z.int(),
          protocol: z.enum(['tcp', 'udp']),
          change: z.enum(['added', 'removed', 'moved']),
          from: z.string().optional().meta({ description: 'The microservice that it would be moved from.' }),
        }),
      )
      .meta({ description: 'What would become of public ports; those that stay are left out.' }),
    links: z.strictObject({ microservice: z.string() }),
  })
  .meta({ description: 'What a change would do. Nothing was changed.' });

export type DryRunView = z.infer<typeof dryRunSchema>;
