/**
 * The package acme-client, loaded when a first certificate is asked for (it takes 28 MB), and taught our transport.
 *
 * Invariants: it never waits and repeats by itself but for nonces, so that a workflow decides over that; of an answer
 * that is a problem, type, detail and time to wait are kept, of which the package would keep the detail alone.
 */

import type * as AcmeClientPackage from 'acme-client';

import { ProblemAnswer, readProblem } from './problem-document';
import { ask, retryAtMs } from './transport';

export type AcmeLibrary = typeof AcmeClientPackage;

let loading: Promise<AcmeLibrary> | undefined;
const trusted = new Set<string>();

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const BAD_NONCE = 'urn:ietf:params:acme:error:badNonce';

const load = async (): Promise<AcmeLibrary> => {
  const library = await import('acme-client');
  library.axios.defaults.adapter = async (config) => {
    const answer = await ask({
      method: (config.method ?? 'get').toUpperCase(),
      url: config.url ?? '',
      headers: Object.fromEntries(
        Object.entries(config.headers.toJSON()).map(([name, value]) => [name, String(value)]),
      ),
      ...(typeof config.data === 'string' ? { body: config.data } : {}),
      ...(trusted.size === 0 ? {} : { caPem: [...trusted].join('\n') }),
    });
    if (answer.status >= 400) {
      const problem = readProblem(parsed(answer.text)) ?? {
        type: 'about:blank',
        detail: `it answered ${answer.status}`,
      };
      // The package gets a new nonce and tries again.
      if (problem.type !== BAD_NONCE) {
        throw new ProblemAnswer({ status: answer.status, ...problem }, retryAtMs(answer.headers, Date.now()));
      }
    }
    return {
      data: answer.text,
      status: answer.status,
      statusText: '',
      headers: { ...answer.headers } as Record<string, string>,
      config,
    };
  };
  return library;
};

/** @param caPem roots that servers of authorities may have, beside those of Node.js */
export const acmeLibrary = (caPem?: string): Promise<AcmeLibrary> => {
  if (caPem !== undefined) trusted.add(caPem);
  loading ??= load();
  return loading;
};
