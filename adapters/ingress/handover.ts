/**
 * How one configuration of Caddy takes over from another without losing a request. Pure.
 *
 * Caddy starts the servers of a new configuration beside those of the one before, asks where else it should get a
 * configuration from, and only then shuts the old servers down, which hang up on every connection whose next request they
 * have not read. So it is sent to itself for that, and from there to whoever knows when clients have come to the new servers
 * (handover-end.ts). It is kept waiting while both serve: the old servers end each connection with an answer, and
 * whoever connects anew comes to a new one sooner or later, and stays there.
 *
 * Invariants: of two configurations that follow each other only the older one ends connections; at its start, when there
 * is nothing to take over, Caddy waits for nothing; what it gets in the end is no configuration, also when nobody is there
 * to answer, or goes away.
 */

import { join } from 'node:path';

import { ENDING, isMarked } from './marks';

/** Configurations take turns, so that each can be told from the one before. */
export type Turn = 0 | 1;

/** As it stands in a written configuration, in which nothing that a user says can look like it: quotes are escaped there. */
const written = (turn: Turn): string => `"try_files":["${ENDING[turn]}"]`;

/** @returns the turn of a configuration, as it was written */
export const turnOf = (config: string | undefined): Turn => (config?.includes(written(1)) === true ? 1 : 0);

/** @returns the same configuration, written for the other turn */
export const inOtherTurn = (config: string): string => {
  const turn = turnOf(config);
  return config.replaceAll(written(turn), written(turn === 0 ? 1 : 0));
};

/** Who answers when the handover is over. */
export const handoverSocket = (directory: string): string => join(directory, 'handover.sock');

/** How long both serve when nobody answers there. */
const BOTH_SERVE_ALONE = '1s';
/** Who answers does so sooner (handover-end.ts), unless it hangs. */
const NO_LONGER_THAN = '5s';
/** No client has a reason to ask so. */
const HANDOVER = 'HANDOVER';
const JSON_TYPE = { 'Content-Type': ['application/json'] };

/** An answer that opens a web socket has to say so, and not that the connection ends. */
export const endConnections = (directory: string, turn: Turn): object => ({
  match: [{ ...isMarked(directory, [ENDING[turn]]), not: [{ header: { Upgrade: ['*'] } }] }],
  handle: [{ handler: 'headers', response: { set: { Connection: ['close'] }, deferred: true } }],
});

/** Of the admin API. @param port of this machine on which requests are taken without TLS */
export const askItself = (port: number): object => ({
  persist: false,
  load: { module: 'http', method: HANDOVER, url: `http://127.0.0.1:${port}/` },
});

/** Whose complaint that it got no configuration is left out of what is logged. */
export const HANDOVER_LOGGER = 'config_loader';

const noConfiguration = { handler: 'static_response', status_code: 200, headers: JSON_TYPE, body: 'none' };

/**
 * Takes what has no meaning for a microservice: CONNECT, and what Caddy asks itself. One look at the method does for both.
 *
 * @param refusal of the former
 */
export const methodsOfIts = (directory: string, refusal: object): object => ({
  match: [{ method: ['CONNECT', HANDOVER] }],
  handle: [
    {
      handler: 'subroute',
      routes: [
        {
          match: [
            {
              method: [HANDOVER],
              remote_ip: { ranges: ['127.0.0.1'] },
              ...isMarked(directory, ENDING),
            },
          ],
          handle: [
            {
              handler: 'reverse_proxy',
              upstreams: [{ dial: `unix/${handoverSocket(directory)}` }],
              rewrite: { method: 'GET' },
              load_balancing: { try_duration: BOTH_SERVE_ALONE, try_interval: '50ms' },
              transport: { protocol: 'http', response_header_timeout: NO_LONGER_THAN },
            },
          ],
        },
        { match: [{ method: [HANDOVER] }], handle: [noConfiguration], terminal: true },
        { handle: [refusal] },
      ],
      errors: { routes: [{ handle: [noConfiguration] }] },
    },
  ],
  terminal: true,
});
