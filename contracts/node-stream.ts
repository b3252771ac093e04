/**
 * How the API asks a node for a stream of bytes (container logs, commands in containers) although nodes only dial out.
 *
 * The node worker keeps `GET /internal/v1/nodes/<nodeId>/requests` open; the API writes one `NodeStreamRequest` a
 * line (NDJSON; an empty line every 15 s keeps the connection). For each, the node answers with
 * `POST /internal/v1/streams/<requestId>`. Of logs, its chunked body is one `LogLine` a line, until the logs end or the
 * API closes the connection; of a command, bodies go both ways (contracts/exec.ts). What cannot be answered is a POST
 * with the query `?error=<code>&message=<text>`.
 * Both carry `Authorization: Bearer <internal token>`, which is not the password of people.
 */

import type { ExecRequest } from './exec';

export type NodeStreamRequest = LogsRequest | ExecRequest;

export interface LogsRequest {
  readonly requestId: string;
  readonly kind: 'logs';
  readonly replicaId: string;
  /** Only this container of the replica; all of them when left out. */
  readonly container?: string;
  /** How many of the newest lines; all when left out. */
  readonly tail?: number;
  readonly sinceMs?: number;
  readonly follow: boolean;
}

export interface LogLine {
  readonly replica: string;
  readonly container: string;
  readonly stream: 'stdout' | 'stderr';
  readonly atMs: number;
  readonly line: string;
}

export const nodeRequestsPath = (nodeId: string): string => `/internal/v1/nodes/${nodeId}/requests`;
export const nodeStreamPath = (requestId: string): string => `/internal/v1/streams/${requestId}`;
export const NODE_STREAM_KEEPALIVE_MS = 15_000;
