/** How routes with options are written under `httpPorts`. */

import { z } from 'zod';

export const MAX_ERROR_PAGE_CHARACTERS = 32_768;
/** bcrypt takes no more of a password. */
const MAX_PASSWORD_BYTES = 72;
const MAX_LISTED = 100;
const MAX_USERS = 20;
const MAX_RATE_REQUESTS = 1_000_000;
/** What is counted is in memory: nobody should count on more of it. */
const MAX_RATE_SECONDS = 3_600;

/** Letters and digits in segments: nothing that has to be encoded, and nothing that the proxy reads as a pattern. */
const ROUTE_PATH = /^(?:\/(?!\.{1,2}(?:\/|$))[a-z0-9._~-]+)+\/?$/;
/** Without a colon, which ends it on the wire, and without braces. */
const USER = /^[A-Za-z0-9._@+-]+$/;

export const BCRYPT = /^\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$/;

/** What is meant to be a hash of another kind, or is half a hash, would be hashed as a password. */
const isNoOtherHash = (text: string): boolean =>
  BCRYPT.test(text) || !/^(?:\$[a-z0-9-]+\$|\{SHA\})/.test(text);

const passwordSchema = z
  .string()
  .min(1)
  .refine((text) => !text.includes('\0'), { message: 'must not contain a NUL character' })
  .refine((text) => new TextEncoder().encode(text).length <= MAX_PASSWORD_BYTES, {
    message: `must have ${MAX_PASSWORD_BYTES} bytes at most`,
  })
  .refine(isNoOtherHash, {
    message:
      'must be a password, or a bcrypt hash like $2b$10$… with its 60 characters, not a hash of another kind',
  });

const BLOCK = z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()]);

/** Whether it is an address, or a block of addresses like 10.0.0.0/8. */
export const isAddressBlock = (text: string): boolean => BLOCK.safeParse(text).success;

export const addressesSchema = z
  .array(
    z.string().refine(isAddressBlock, {
      message: 'must be an address or a block of addresses like 10.0.0.0/8 or 2001:db8::/32',
    }),
  )
  .min(1)
  .max(MAX_LISTED);

/** @param hostnameSchema what a single hostname has to be */
export const createRouteSchema = <T extends z.ZodType<string, string>>(hostnameSchema: T) =>
  z.strictObject({
    hostnames: z.union([hostnameSchema, z.array(hostnameSchema).min(1).max(50)]),
    path: z
      .string()
      .max(200)
      .toLowerCase()
      .regex(ROUTE_PATH, {
        message: 'must be a path like /api, of letters, digits, ".", "_", "~" and "-" between slashes',
      })
      .optional(),
    stripPath: z.boolean().optional(),
    redirectFrom: z.array(hostnameSchema).min(1).max(50).optional(),
    protocol: z.enum(['http', 'h2c', 'https']).optional(),
    basicAuth: z
      .record(
        z.string().max(64).regex(USER, { message: 'must be of letters, digits and . _ @ + -' }),
        passwordSchema,
      )
      .refine((users) => Object.keys(users).length > 0, { message: 'must have one user at least' })
      .refine((users) => Object.keys(users).length <= MAX_USERS, {
        message: `must have ${MAX_USERS} users at most`,
      })
      .optional(),
    allow: addressesSchema.optional(),
    sticky: z.boolean().optional(),
    rateLimit: z
      .strictObject({
        requests: z.int().min(1).max(MAX_RATE_REQUESTS),
        seconds: z.int().min(1).max(MAX_RATE_SECONDS),
      })
      .optional(),
    maxBodyBytes: z.int().min(1).optional(),
    responseTimeoutSeconds: z.number().min(0.1).max(86_400).optional(),
    errorPage: z
      .string()
      .min(1)
      .max(MAX_ERROR_PAGE_CHARACTERS)
      .refine((text) => !text.includes('\0'), { message: 'must not contain a NUL character' })
      .optional(),
  });
