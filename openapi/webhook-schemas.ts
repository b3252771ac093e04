/** Deploy webhooks, as zod schemas: what requests hold, and what is answered. */

import { z } from 'zod';

const time = () => z.iso.datetime().meta({ description: 'ISO 8601, UTC.' });

const webhookName = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9-]{0,62}$/, {
    message: 'must be a letter, then letters, digits and hyphens, 63 characters at most',
  })
  .meta({ description: 'Shown with the releases that it makes.', example: 'ci' });

export const webhookRequestSchema = z
  .strictObject({
    name: webhookName,
    anyRepository: z.boolean().optional().meta({
      description: 'Whether it may bring an image of another repository than the one that runs; false.',
    }),
  })
  .meta({ description: 'A webhook that is to be made.' });

const webhookFields = {
  id: z.string(),
  name: z.string(),
  microservice: z.string(),
  anyRepository: z.boolean(),
  createdAt: time(),
  rotatedAt: time().optional().meta({ description: 'When its secret was last replaced.' }),
  lastUse: z
    .strictObject({
      at: time(),
      result: z.string().meta({
        description: '`accepted`, `unchanged`, or the code of the error that it was refused with.',
      }),
      image: z.string().optional(),
      operation: z.string().optional(),
    })
    .optional(),
  links: z.strictObject({ self: z.string(), microservice: z.string() }),
};

export const webhookSchema = z
  .strictObject(webhookFields)
  .meta({ description: 'A deploy webhook, without its secret.' });

export const webhookListSchema = z.strictObject({ items: z.array(webhookSchema) });

export const madeWebhookSchema = z
  .strictObject({
    ...webhookFields,
    secret: z.string().meta({ description: 'Shown this once. Whoever has it can deploy the microservice.' }),
    url: z.string().meta({ description: 'With the secret in it: POST there.' }),
    secretlessUrl: z.string().meta({
      description: 'For those who send the secret as `Authorization: Bearer`, so that no URL has it.',
    }),
  })
  .meta({ description: 'A webhook with its new secret.' });

export const hookRequestSchema = z
  .strictObject({
    image: z.string().min(1).max(512).optional().meta({ description: 'With its tag or digest.' }),
    tag: z
      .string()
      .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/, { message: 'must be a tag of an image, like v1.2' })
      .optional()
      .meta({ description: 'Of the repository that the container runs from now.', example: 'v12' }),
    digest: z
      .string()
      .regex(/^sha256:[0-9a-f]{64}$/, { message: 'must be a digest: sha256: and 64 hexadecimal digits' })
      .optional(),
    container: z.string().max(63).optional().meta({ description: 'Which one, where there are several.' }),
    redeploy: z
      .union([z.literal(true), z.literal('true')])
      .optional()
      .meta({
        description: 'The same specification again, its tags looked up anew; nothing else may be given then.',
      }),
  })
  .meta({ description: 'What to deploy. As JSON, or as a form.', example: { tag: 'v12' } });

export const unchangedHookSchema = z
  .strictObject({
    changed: z.literal(false),
    message: z.string(),
    release: z.int(),
    links: z.strictObject({ microservice: z.string() }),
  })
  .meta({ description: 'The image is what is wanted already: nothing was done.' });

export type WebhookView = z.infer<typeof webhookSchema>;
export type MadeWebhookView = z.infer<typeof madeWebhookSchema>;
export type UnchangedHookView = z.infer<typeof unchangedHookSchema>;
