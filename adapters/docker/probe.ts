/**
 * One look at whether a container serves, by the same rules as Consul's checks: a 2xx answer after redirects, an
 * accepted connection, or a command that ends with 0.
 *
 * Invariant: looks at the container's own address. The published port is no proof: Docker's proxy accepts there
 * before the container listens.
 */

import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';

import type Docker from 'dockerode';

import type { CheckSpec } from '../../domain/spec/schema';
import { hostPort } from '../../domain/host-port';
import { demultiplexToText } from './log-demux';

export type ProbeResult =
  | { readonly kind: 'passed' }
  /** `words` complete "port 80 …" or "the command …". */
  | { readonly kind: 'failed'; readonly words: string };

const PASSED: ProbeResult = { kind: 'passed' };
const MAX_REDIRECTS = 10;
const MAX_COMMAND_OUTPUT_BYTES = 4_096;

const failed = (words: string): ProbeResult => ({ kind: 'failed', words });

export interface ProbeTarget {
  readonly docker: Docker;
  readonly containerId: string;
  /** Of the container's network namespace. */
  readonly address: string;
}

export const probe = (target: ProbeTarget, check: CheckSpec, signal: AbortSignal): Promise<ProbeResult> => {
  switch (check.kind) {
    case 'http':
      return probeHttp(
        new URL(`http://${hostPort(target.address, check.port)}${check.path}`),
        check.timeoutMs,
        signal,
      );
    case 'tcp':
      return probeTcp(target.address, check.port, check.timeoutMs, signal);
    case 'command':
      return probeCommand(target, check.command, check.timeoutMs, signal);
  }
};

export const probeTcp = (
  address: string,
  port: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ProbeResult> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve(failed('was not asked'));
    const socket = connect({ host: address, port });
    const end = (result: ProbeResult): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      socket.destroy();
      resolve(result);
    };
    const stop = (): void => end(failed('was not asked'));
    const timer = setTimeout(() => end(failed('did not answer')), timeoutMs);
    signal.addEventListener('abort', stop, { once: true });
    socket.once('connect', () => end(PASSED));
    socket.once('error', (error) => end(failed(connectionWords(error))));
  });

export const probeHttp = async (
  url: URL,
  timeoutMs: number,
  signal: AbortSignal,
  redirects = 0,
): Promise<ProbeResult> => {
  const answer = await get(url, timeoutMs, signal);
  if ('kind' in answer) return answer;
  const { status, location } = answer;
  if (status >= 200 && status < 300) return PASSED;
  const path = `${url.pathname}${url.search}`;
  if (status >= 300 && status < 400 && location !== undefined && redirects < MAX_REDIRECTS) {
    if (!URL.canParse(location, url.href)) return failed(`redirected ${path} to ${location}`);
    return probeHttp(new URL(location, url), timeoutMs, signal, redirects + 1);
  }
  return failed(`answered ${path} with HTTP ${status}`);
};

const get = (
  url: URL,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ProbeResult | { readonly status: number; readonly location: string | undefined }> =>
  new Promise((resolve) => {
    const isSecure = url.protocol === 'https:';
    const request = (isSecure ? httpsRequest : httpRequest)(
      url,
      // The authority of a certificate is not what a health check is about.
      { agent: false, signal, headers: { 'User-Agent': 'ContainerOS-Check' }, rejectUnauthorized: false },
      (response) => {
        clearTimeout(timer);
        response.destroy();
        resolve({ status: response.statusCode ?? 0, location: response.headers.location });
      },
    );
    const timer = setTimeout(() => {
      resolve(failed('did not answer'));
      request.destroy();
    }, timeoutMs);
    request.on('error', (error) => {
      clearTimeout(timer);
      resolve(failed(connectionWords(error)));
    });
    request.end();
  });

const connectionWords = (error: Error): string => {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ECONNREFUSED':
      return 'refused connections';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'was not reachable';
    case 'ECONNRESET':
      return 'closed the connection';
    case undefined:
    default:
      return `failed (${error.message})`;
  }
};

const probeCommand = async (
  { docker, containerId }: ProbeTarget,
  command: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ProbeResult> => {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    const execution = await docker.getContainer(containerId).exec({
      Cmd: [...command],
      AttachStdout: true,
      AttachStderr: true,
      abortSignal: limited,
    });
    const stream = await execution.start({ Detach: false, Tty: false, abortSignal: limited });
    const output = await demultiplexToText(stream, MAX_COMMAND_OUTPUT_BYTES, limited);
    const { ExitCode } = await execution.inspect({ abortSignal: limited });
    if (ExitCode === 0) return PASSED;
    const said = output.trim().split('\n').at(-1) ?? '';
    return failed(`ended with exit code ${ExitCode ?? 'unknown'}${said === '' ? '' : `: ${said}`}`);
  } catch (error) {
    if (limited.aborted) return failed(`did not end within ${timeoutMs / 1_000} s`);
    return failed(`could not be run (${error instanceof Error ? error.message : String(error)})`);
  }
};

/** @returns what the first of them that fails says; undefined when all pass */
export const firstFailure = async (
  target: ProbeTarget,
  checks: readonly CheckSpec[],
  signal: AbortSignal,
): Promise<string | undefined> => {
  const failures = await Promise.all(
    checks.map(async (check) => {
      const result = await probe(target, check, signal);
      return result.kind === 'passed' ? undefined : describeCheckFailure(check, result.words);
    }),
  );
  return failures.find((failure) => failure !== undefined);
};

/** "port 80 refused connections", "the check command ended with exit code 1". */
export const describeCheckFailure = (check: CheckSpec, words: string): string =>
  check.kind === 'command' ? `the check command ${words}` : `port ${check.port} ${words}`;
