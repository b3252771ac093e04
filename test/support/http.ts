// HTTP requests for tests, with what fetch does not let a test set: the Host header, and bytes that are no body.
import { request, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { text as readText } from 'node:stream/consumers';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body, parsed when it says that it is JSON; otherwise the text. */
  readonly body: unknown;
}

export interface HttpOptions {
  readonly method?: string;
  readonly headers?: Readonly<OutgoingHttpHeaders>;
  readonly timeoutMs?: number;
  /** From which address of this machine. */
  readonly localAddress?: string;
}

const DEFAULT_TIMEOUT_MS = 15_000;

export async function httpRequest(
  url: string,
  options: HttpOptions & { readonly body?: string | Buffer } = {},
): Promise<HttpAnswer> {
  const response = await openRequest(url, options);
  const text = await readText(response);
  const isJson = /\bjson\b/.test(response.headers['content-type'] ?? '');
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text,
    body: isJson && text !== '' ? (JSON.parse(text) as unknown) : text,
  };
}

/** The answer as soon as its head is there: for streams. */
export function openRequest(
  url: string,
  options: HttpOptions & { readonly body?: string | Buffer } = {},
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { body } = options;
    const outgoing = request(url, {
      method: options.method ?? 'GET',
      ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
      agent: false, // a connection of its own: nothing is left over from a server that was killed
      headers: {
        ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
        ...options.headers,
      },
      signal: AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS),
    });
    outgoing.on('response', resolve);
    // A server may answer and close before it has read all of a body that it refuses.
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
