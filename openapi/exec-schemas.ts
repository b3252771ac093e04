/** Commands in containers: what is asked, and what comes back, over HTTP and over a WebSocket. */

import { z } from 'zod';

/** Of each of stdout and stderr, in the answer to one request. */
export const MAX_EXEC_OUTPUT_BYTES = 1_000_000;
export const MAX_EXEC_TIMEOUT_SECONDS = 600;
export const DEFAULT_EXEC_TIMEOUT_SECONDS = 60;

/** What a program's arguments cannot hold. */
const text = (maximum: number) =>
  z
    .string()
    .max(maximum)
    // eslint-disable-next-line no-control-regex
    .regex(/^[^\u0000]*$/, { message: 'must not hold a NUL character' });

const command = z.tuple([text(4_096).min(1)], text(131_071)).meta({
  description: 'The program and its arguments. No shell reads them.',
  example: ['ls', '-l', '/tmp'],
});

const common = {
  command,
  container: z
    .string()
    .max(253)
    .optional()
    .meta({ description: 'Which container of the replica; may be left out when it has one.' }),
  env: z
    .record(z.string().regex(/^[^=\u0000]+$/, { message: 'must not hold = or be empty' }), text(131_071)) // eslint-disable-line no-control-regex
    .optional()
    .meta({ description: "Variables beside the container's own.", example: { DEBUG: '1' } }),
  user: text(256)
    .min(1)
    .optional()
    .meta({ description: "User, or user:group; the container's own when left out.", example: 'www-data' }),
  workingDirectory: text(4_096)
    .min(1)
    .optional()
    .meta({ description: "Where it runs; the container's own directory when left out.", example: '/srv' }),
};

export const execRequestSchema = z
  .strictObject({
    ...common,
    stdin: z.string().optional().meta({ description: 'What the command reads; nothing when left out.' }),
    timeoutSeconds: z
      .int()
      .min(1)
      .max(MAX_EXEC_TIMEOUT_SECONDS)
      .optional()
      .meta({ description: `When the command is ended; ${DEFAULT_EXEC_TIMEOUT_SECONDS} when left out.` }),
  })
  .meta({ description: 'A command to run in a container.' });

export const execResultSchema = z
  .strictObject({
    replica: z.string(),
    container: z.string(),
    node: z.string(),
    exitCode: z.int().meta({
      description: '128 and the number of the signal when it was killed; 124 when its time was over.',
    }),
    timedOut: z.boolean().meta({ description: 'Whether it was ended because its time was over.' }),
    stdout: z.string(),
    stderr: z.string(),
    stdoutTruncated: z.boolean().meta({
      description: `Whether there was more: of each, the first ${MAX_EXEC_OUTPUT_BYTES} bytes are kept.`,
    }),
    stderrTruncated: z.boolean(),
  })
  .meta({ description: 'How a command ended. Bytes that are no UTF-8 come as U+FFFD.' });

const size = { columns: z.int().min(1).max(65_535), rows: z.int().min(1).max(65_535) };

/** The first message of a client. */
export const execStartSchema = z.strictObject({
  kind: z.literal('start'),
  ...common,
  stdin: z.boolean().optional(),
  tty: z.boolean().optional(),
  columns: size.columns.optional(),
  rows: size.rows.optional(),
});

/** The text messages of a client after that. */
export const execControlSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('resize'), ...size }),
  z.strictObject({
    kind: z.literal('signal'),
    signal: z.enum(['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGKILL', 'SIGUSR1', 'SIGUSR2']),
  }),
]);

export type ExecRequestBody = z.infer<typeof execRequestSchema>;
export type ExecResultView = z.infer<typeof execResultSchema>;
export type ExecStart = z.infer<typeof execStartSchema>;
export type ExecControl = z.infer<typeof execControlSchema>;

/** The text messages of the API. */
export type ExecMessage =
  | { readonly kind: 'started'; readonly replica: string; readonly container: string; readonly node: string }
  | { readonly kind: 'exited'; readonly exitCode: number }
  | { readonly kind: 'failed'; readonly problem: import('./schemas').ProblemBody };
