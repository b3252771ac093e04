/**
 * Consul's HTTP API, typed: key-value store, transactions, health and the local agent.
 *
 * Invariants: every request has a time limit; a connection that the agent closed while idle is replaced without the
 * caller noticing; errors are `ConsulError` and say which request failed; nothing is cached.
 */

import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https';

const REQUEST_TIMEOUT_MS = 10_000;
/** Consul adds up to a sixteenth of the wait, so that many waiters do not return at once. */
const BLOCKING_MARGIN_MS = 5_000;
const KEEP_ALIVE_MS = 30_000;
/** The largest number of operations that Consul takes in one transaction. */
export const MAX_TRANSACTION_OPERATIONS = 64;

export interface ConsulClientOptions {
  /** Address of the agent: `http://127.0.0.1:8500`. */
  readonly url: string;
  readonly token?: string;
}

export interface ConsulRequest {
  readonly method?: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** Without `/v1`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: string | object;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Statuses that are answers and no errors; 200 always is. */
  readonly accept?: readonly number[];
}

export interface ConsulAnswer<T> {
  readonly status: number;
  /** Consul's index of the data: pass it to a blocking query to wait for the next change. */
  readonly index: number;
  readonly body: T;
}

/** Makes a query wait until the data is newer than `index`. */
export interface Blocking {
  readonly index: number;
  readonly waitMs: number;
  readonly signal?: AbortSignal;
}

export interface KvEntry {
  readonly key: string;
  readonly value: string;
  readonly modifyIndex: number;
}

export type KvOperation =
  | { readonly verb: 'set'; readonly key: string; readonly value: string }
  | { readonly verb: 'cas'; readonly key: string; readonly value: string; readonly index: number }
  | { readonly verb: 'delete' | 'delete-tree'; readonly key: string }
  | { readonly verb: 'delete-cas'; readonly key: string; readonly index: number };

export type TransactionOutcome =
  | { readonly kind: 'committed'; readonly index: number }
  /** Nothing of it was written: a compare-and-set found another index. */
  | { readonly kind: 'conflict'; readonly failures: readonly { readonly operation: number; what: string }[] };

export interface AgentCheckDefinition {
  readonly CheckID?: string;
  readonly Name?: string;
  readonly HTTP?: string;
  readonly Method?: string;
  readonly TCP?: string;
  readonly TTL?: string;
  readonly Interval?: string;
  readonly Timeout?: string;
  readonly Status?: HealthStatus;
  readonly Notes?: string;
  readonly FailuresBeforeCritical?: number;
  readonly SuccessBeforePassing?: number;
}

export type HealthStatus = 'passing' | 'warning' | 'critical';

export interface AgentServiceDefinition {
  readonly ID: string;
  readonly Name: string;
  readonly Tags?: readonly string[];
  readonly Meta?: Readonly<Record<string, string>>;
  readonly Address?: string;
  readonly Port?: number;
  readonly Checks?: readonly AgentCheckDefinition[];
}

export interface AgentService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags: readonly string[] | null;
  readonly Meta: Readonly<Record<string, string>> | null;
  readonly Address: string;
  readonly Port: number;
}

export interface HealthCheck {
  readonly Node: string;
  readonly CheckID: string;
  readonly Name: string;
  readonly Status: HealthStatus;
  readonly Output: string;
  readonly ServiceID: string;
  readonly ServiceName: string;
}

export interface ServiceInstance {
  readonly Node: {
    readonly Node: string;
    readonly Address: string;
    readonly Meta: Record<string, string> | null;
  };
  readonly Service: AgentService;
  readonly Checks: readonly HealthCheck[];
}

export class ConsulError extends Error {
  override readonly name = 'ConsulError';

  /** @param status undefined when there was no answer */
  constructor(
    message: string,
    readonly status: number | undefined,
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
  }
}

export interface ConsulClient {
  request<T>(request: ConsulRequest): Promise<ConsulAnswer<T>>;
  /** `body` is undefined when there is no such key. */
  kvGet(key: string, blocking?: Blocking): Promise<ConsulAnswer<KvEntry | undefined>>;
  kvList(prefix: string, blocking?: Blocking): Promise<ConsulAnswer<readonly KvEntry[]>>;
  kvKeys(prefix: string): Promise<ConsulAnswer<readonly string[]>>;
  /** All operations or none; at most MAX_TRANSACTION_OPERATIONS. */
  transact(operations: readonly KvOperation[]): Promise<TransactionOutcome>;
  self(): Promise<{ readonly nodeName: string; readonly datacenter: string; readonly version: string }>;
  /** Services of the local agent whose `Meta` has these values. */
  agentServices(meta: Readonly<Record<string, string>>): Promise<readonly AgentService[]>;
  /** Replaces the checks that the service had. */
  registerService(service: AgentServiceDefinition): Promise<void>;
  /** False when there was no such service. */
  deregisterService(serviceId: string): Promise<boolean>;
  reportCheck(checkId: string, status: HealthStatus, output: string): Promise<void>;
  /** Checks of one machine, from the catalogue. */
  nodeChecks(nodeName: string, blocking?: Blocking): Promise<ConsulAnswer<readonly HealthCheck[]>>;
  /** Instances of a service on all nodes, with their checks. */
  serviceInstances(name: string, blocking?: Blocking): Promise<ConsulAnswer<readonly ServiceInstance[]>>;
  close(): void;
}

interface RawKvEntry {
  readonly Key: string;
  readonly Value: string | null;
  readonly ModifyIndex: number;
}

export const createConsulClient = (options: ConsulClientOptions): ConsulClient => {
  const base = new URL(options.url);
  const secure = base.protocol === 'https:';
  const agent = new (secure ? HttpsAgent : Agent)({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS });
  const headers: Record<string, string> =
    options.token === undefined ? {} : { 'X-Consul-Token': options.token };

  const send = (request: ConsulRequest, path: string): Promise<{ message: IncomingMessage; text: string }> =>
    new Promise((resolve, reject) => {
      const body =
        request.body === undefined || typeof request.body === 'string'
          ? request.body
          : JSON.stringify(request.body);
      const outgoing = (secure ? httpsRequest : httpRequest)(
        {
          host: base.hostname.replace(/^\[|\]$/g, ''),
          port: base.port || (secure ? 443 : 80),
          path,
          method: request.method ?? 'GET',
          agent,
          headers: body === undefined ? headers : { ...headers, 'Content-Length': Buffer.byteLength(body) },
          ...(request.signal === undefined ? {} : { signal: request.signal }),
        },
        (message) => {
          const chunks: Buffer[] = [];
          message.on('data', (chunk: Buffer) => chunks.push(chunk));
          message.on('error', fail);
          message.on('end', () => {
            clearTimeout(timer);
            resolve({ message, text: Buffer.concat(chunks).toString('utf8') });
          });
        },
      );
      const timeoutMs = request.timeoutMs ?? REQUEST_TIMEOUT_MS;
      const timer = setTimeout(
        () => outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      const fail = (error: Error): void => {
        clearTimeout(timer);
        const isStale = outgoing.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
        reject(isStale ? new StaleConnection(error) : error);
      };
      outgoing.on('error', fail);
      outgoing.end(body);
    });

  const request = async <T>(asked: ConsulRequest): Promise<ConsulAnswer<T>> => {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(asked.query ?? {})) {
      if (value !== undefined) query.set(key, String(value));
    }
    const method = asked.method ?? 'GET';
    const search = query.size === 0 ? '' : `?${query.toString()}`;
    const path = `${base.pathname.replace(/\/$/, '')}/v1${asked.path}${search}`;
    let answer;
    try {
      answer = await send(asked, path).catch((error: unknown) => {
        if (error instanceof StaleConnection) return send(asked, path);
        throw error;
      });
    } catch (error) {
      if (asked.signal?.aborted === true) throw error;
      const cause = error instanceof StaleConnection ? error.cause : error;
      throw new ConsulError(
        `Consul at ${options.url} did not answer ${method} ${asked.path}: ${describeError(cause)}`,
        undefined,
        { cause },
      );
    }
    const status = answer.message.statusCode ?? 0;
    if (status !== 200 && asked.accept?.includes(status) !== true) {
      throw new ConsulError(
        `Consul refused ${method} ${asked.path} with ${status}: ${answer.text.trim().slice(0, 500)}`,
        status,
      );
    }
    const index = Number(answer.message.headers['x-consul-index'] ?? 0);
    const isJson = String(answer.message.headers['content-type'] ?? '').includes('json');
    const body = (isJson && answer.text !== '' ? JSON.parse(answer.text) : answer.text) as T;
    return { status, index, body };
  };

  const blockingParts = (
    blocking: Blocking | undefined,
  ): { query: Record<string, string | number>; rest: Pick<ConsulRequest, 'timeoutMs' | 'signal'> } =>
    blocking === undefined
      ? { query: {}, rest: {} }
      : {
          query: { index: blocking.index, wait: `${blocking.waitMs}ms` },
          rest: {
            timeoutMs: blocking.waitMs + blocking.waitMs / 16 + BLOCKING_MARGIN_MS,
            ...(blocking.signal === undefined ? {} : { signal: blocking.signal }),
          },
        };

  const kv = async (
    key: string,
    query: Record<string, string | number | boolean>,
    blocking: Blocking | undefined,
  ): Promise<ConsulAnswer<readonly KvEntry[]>> => {
    const { query: blockingQuery, rest } = blockingParts(blocking);
    const answer = await request<readonly RawKvEntry[] | string>({
      path: `/kv/${encodeKey(key)}`,
      query: { ...query, ...blockingQuery },
      accept: [404],
      ...rest,
    });
    const raw = answer.status === 404 || typeof answer.body === 'string' ? [] : answer.body;
    return { ...answer, body: raw.map(toKvEntry) };
  };

  return {
    request,
    kvGet: async (key, blocking) => {
      const answer = await kv(key, {}, blocking);
      return { ...answer, body: answer.body[0] };
    },
    kvList: (prefix, blocking) => kv(prefix, { recurse: true }, blocking),
    kvKeys: async (prefix) => {
      const answer = await request<readonly string[] | string>({
        path: `/kv/${encodeKey(prefix)}`,
        query: { keys: true },
        accept: [404],
      });
      return { ...answer, body: typeof answer.body === 'string' ? [] : answer.body };
    },
    transact: async (operations) => {
      const { status, body } = await request<TransactionBody>({
        method: 'PUT',
        path: '/txn',
        body: operations.map(toRawOperation),
        accept: [409],
      });
      if (status === 409) {
        const failures = (body.Errors ?? []).map(({ OpIndex, What }) => ({ operation: OpIndex, what: What }));
        return { kind: 'conflict', failures };
      }
      const indexes = (body.Results ?? []).map(({ KV }) => KV?.ModifyIndex ?? 0);
      return { kind: 'committed', index: Math.max(0, ...indexes) };
    },
    self: async () => {
      const { body } = await request<{
        Config: { NodeName: string; Datacenter: string; Version: string };
      }>({ path: '/agent/self' });
      const { NodeName: nodeName, Datacenter: datacenter, Version: version } = body.Config;
      return { nodeName, datacenter, version };
    },
    agentServices: async (meta) => {
      const filter = Object.entries(meta)
        .map(([key, value]) => `Meta[${JSON.stringify(key)}] == ${JSON.stringify(value)}`)
        .join(' and ');
      const { body } = await request<Record<string, AgentService>>({
        path: '/agent/services',
        query: { filter: filter === '' ? undefined : filter },
      });
      return Object.values(body);
    },
    registerService: async (service) => {
      await request({
        method: 'PUT',
        path: '/agent/service/register',
        query: { 'replace-existing-checks': true },
        body: service,
      });
    },
    deregisterService: async (serviceId) => {
      const { status } = await request({
        method: 'PUT',
        path: `/agent/service/deregister/${encodeURIComponent(serviceId)}`,
        accept: [404],
      });
      return status !== 404;
    },
    reportCheck: async (checkId, status, output) => {
      await request({
        method: 'PUT',
        path: `/agent/check/update/${encodeURIComponent(checkId)}`,
        body: { Status: status, Output: output },
      });
    },
    nodeChecks: (nodeName, blocking) => {
      const { query, rest } = blockingParts(blocking);
      return request({ path: `/health/node/${encodeURIComponent(nodeName)}`, query, ...rest });
    },
    serviceInstances: (name, blocking) => {
      const { query, rest } = blockingParts(blocking);
      return request({ path: `/health/service/${encodeURIComponent(name)}`, query, ...rest });
    },
    close: () => agent.destroy(),
  };
};

/** The agent closed an idle connection at the moment of its reuse: the request was not taken, and may be repeated. */
class StaleConnection extends Error {
  constructor(override readonly cause: Error) {
    super(cause.message);
  }
}

interface TransactionBody {
  readonly Results?: readonly { readonly KV?: { readonly ModifyIndex: number } }[] | null;
  readonly Errors?: readonly { readonly OpIndex: number; readonly What: string }[] | null;
}

const encodeKey = (key: string): string => key.split('/').map(encodeURIComponent).join('/');

const toKvEntry = ({ Key, Value, ModifyIndex }: RawKvEntry): KvEntry => ({
  key: Key,
  value: Value === null ? '' : Buffer.from(Value, 'base64').toString('utf8'),
  modifyIndex: ModifyIndex,
});

const toRawOperation = (operation: KvOperation): object => ({
  KV: {
    Verb: operation.verb,
    Key: operation.key,
    ...('value' in operation ? { Value: Buffer.from(operation.value, 'utf8').toString('base64') } : {}),
    ...('index' in operation ? { Index: operation.index } : {}),
  },
});

const describeError = (error: unknown): string => {
  if (error instanceof AggregateError) return error.errors.map(describeError).join('; ');
  return error instanceof Error ? error.message : String(error);
};
