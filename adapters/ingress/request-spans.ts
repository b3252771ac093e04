/**
 * What Caddy says of a request to a release under judgement: a span of OpenTelemetry, a line each on its standard output.
 * Pure.
 */

import { MAY_PASS } from './rate-limit';

/** A request under judgement: who answered it, and how. */
export interface JudgedRequest {
  /** Where it was led to, like 10.0.0.1:20000. */
  readonly address: string;
  /** From 500 on, or no answer at all. */
  readonly isError: boolean;
  /** Until the replica began to answer; left out when it did not. */
  readonly latencyMs?: number;
  /** When it was over, by the clock of this machine. */
  readonly endedAtMs: number;
}

const SPAN = 'containeros.judged';
const UPSTREAM = 'containeros.upstream';
const STATUS = 'containeros.status';
const TOOK = 'containeros.took';

/**
 * Caddy's handler that makes the span. What is empty was not answered: errors are answered by the ingress itself, after
 * the span has ended.
 */
export const JUDGED_REQUEST: object = {
  handler: 'tracing',
  span: SPAN,
  span_attributes: {
    [UPSTREAM]: '{http.reverse_proxy.upstream.hostport}',
    [STATUS]: '{http.reverse_proxy.status_code}',
    [TOOK]: '{http.reverse_proxy.upstream.latency_ms}',
  },
};

/**
 * Of Caddy's process. Spans are told within half a second; when nobody takes them, those beyond the first 2,048 are
 * dropped, and requests go on. What clients say of tracing is passed on to replicas, and means nothing here.
 *
 * Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export const SPAN_SETTINGS: Readonly<Record<string, string>> = {
  OTEL_TRACES_EXPORTER: 'console',
  OTEL_TRACES_SAMPLER: 'always_on',
  OTEL_PROPAGATORS: 'none',
  OTEL_BSP_SCHEDULE_DELAY: '500',
};

interface Span {
  readonly Name?: unknown;
  readonly EndTime?: unknown;
  readonly Attributes?: unknown;
}

const attributesOf = ({ Attributes }: Span): ReadonlyMap<unknown, unknown> =>
  new Map(
    (Array.isArray(Attributes) ? (Attributes as readonly unknown[]) : []).map((one) => {
      const { Key, Value } = (one ?? {}) as {
        readonly Key?: unknown;
        readonly Value?: { readonly Value?: unknown };
      };
      return [Key, Value?.Value];
    }),
  );

/** @returns nothing when the line is no such span, or the request was led to nobody */
export const requestOfSpan = (line: string): JudgedRequest | undefined => {
  let span: unknown;
  try {
    span = JSON.parse(line);
  } catch {
    return undefined; // Caddy was killed within it
  }
  if (typeof span !== 'object' || span === null || (span as Span).Name !== SPAN) return undefined;
  const attributes = attributesOf(span);
  const address = attributes.get(UPSTREAM);
  const endedAtMs = Date.parse(String((span as Span).EndTime));
  if (typeof address !== 'string' || address === '' || Number.isNaN(endedAtMs)) return undefined;
  const status = Number(attributes.get(STATUS));
  const took = attributes.get(TOOK);
  // What was led to a replica that has not answered keeps what came before it.
  const isAnswered = status !== MAY_PASS;
  const latencyMs = took === '' || !isAnswered ? NaN : Number(took);
  return {
    address,
    isError: !(status > 0 && status < 500),
    ...(Number.isNaN(latencyMs) ? {} : { latencyMs }),
    endedAtMs,
  };
};
