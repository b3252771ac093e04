/**
 * What Caddy is told of HTTPS: where certificates are, what is redirected to them, and that it asks no authority. Pure.
 *
 * With each full handshake Caddy asks its own door, a server on the loopback interface, for the certificate of the name
 * that the client wants, and the door reads it from a file. So a certificate holds from the next handshake on, without a
 * new configuration, which would lose requests (docs/decisions/certificates.md).
 *
 * Invariants: nobody gets a private key from the door who does not know its password, which only Caddy's configuration
 * has; a name that could lead out of the folder is looked up nowhere; what the door does not have, Caddy refuses: it is
 * never permitted to get a certificate by itself, and the authority that it would ask is nobody.
 */

import { join } from 'node:path';

import { CERTIFICATES, CHALLENGES, HTTPS_ONLY } from './certificate-files';

export interface CaddyHttps {
  /** What is listened on, as of CaddySettings. */
  readonly listen: string;
  /** Where HTTP/3 is listened for: address and port, of UDP. */
  readonly listenQuic: string;
  /** What clients are redirected to. */
  readonly port: number;
  /** Where Caddy asks itself for certificates. */
  readonly door: CertificateDoor;
}

export interface CertificateDoor {
  /** Of the loopback interface. */
  readonly port: number;
  readonly password: string;
}

const DOOR_USER = 'caddy';
/** Nobody listens there. */
const NO_AUTHORITY = 'https://127.0.0.1:1/no-authority';
const CHALLENGE_PATH = '/.well-known/acme-challenge/';

/** 0: the name; 1: what follows its first label. As isPlainHostname. */
const PLAIN_NAME = '^[a-z0-9_-]+(?:\\.((?:[a-z0-9_-]+\\.)*[a-z0-9_-]+))?$';

/** A header in small letters: Caddy has no other way to say it. Names of hosts know no case (RFC 4343). */
export const IN_SMALL_LETTERS = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ', (letter) => ({
  search: letter,
  replace: letter.toLowerCase(),
}));

/** Has the name that a client wants, in small letters. */
const WANTED_NAME = 'X-Wanted-Name';

const doorAddress = ({ port }: CertificateDoor): string => `127.0.0.1:${port}`;

/**
 * What is matched first goes into what is matched then, and Caddy matches those of one set in any order.
 *
 * @param name of the placeholder that has the matched name
 */
const withPlainName = (value: string, name: string, routes: readonly object[]): object => ({
  match: [{ vars_regexp: { [value]: { name, pattern: PLAIN_NAME } } }],
  handle: [{ handler: 'subroute', routes }],
});

const fileFor = (root: string, name: string): object => ({
  file: { root, try_files: [`exact/{http.regexp.${name}.0}`, `wildcard/{http.regexp.${name}.1}`] },
});

const serveMatched = (root: string): readonly object[] => [
  { handler: 'rewrite', uri: '{http.matchers.file.relative}' },
  { handler: 'file_server', root },
];

/** Caddy's app that has certificates got. */
export const tlsApp = ({ door }: CaddyHttps): object => ({
  automation: {
    policies: [
      {
        get_certificate: [
          // As credentials, which are left out of what is logged.
          { via: 'http', url: `http://${DOOR_USER}:${door.password}@${doorAddress(door)}/` },
        ],
        issuers: [{ module: 'acme', ca: NO_AUTHORITY }],
        // Not to be asked of others: who runs a cluster did not ask for it, and handshakes would wait.
        disable_ocsp_stapling: true,
      },
    ],
    on_demand: { permission: { module: 'http', endpoint: `http://${doorAddress(door)}/permission` } },
  },
});

/** The door: chain and key of `server_name`, or 204 when there are none. */
export const doorServer = (directory: string, { door }: CaddyHttps): object => {
  const root = join(directory, CERTIFICATES);
  const credentials = Buffer.from(`${DOOR_USER}:${door.password}`).toString('base64');
  return {
    listen: [doorAddress(door)],
    protocols: ['h1'],
    automatic_https: { disable: true },
    routes: [
      {
        match: [{ header: { Authorization: [`Basic ${credentials}`] } }],
        handle: [
          {
            handler: 'subroute',
            routes: [
              {
                handle: [
                  {
                    handler: 'headers',
                    request: {
                      set: { [WANTED_NAME]: ['{http.request.uri.query.server_name}'] },
                      replace: { [WANTED_NAME]: IN_SMALL_LETTERS },
                    },
                  },
                ],
              },
              withPlainName(`{http.request.header.${WANTED_NAME}}`, 'sni', [
                { match: [fileFor(root, 'sni')], handle: serveMatched(root), terminal: true },
              ]),
              { handle: [{ handler: 'static_response', status_code: 204 }] },
            ],
          },
        ],
        terminal: true,
      },
      // Whoever knocks without a password, and Caddy itself when it asks whether it may get a certificate.
      { handle: [{ handler: 'static_response', status_code: 403 }] },
    ],
  };
};

/** Answers the challenges of ACME servers that the cluster has asked for a certificate. */
const challengeRoute = (directory: string): object => {
  const root = join(directory, CHALLENGES);
  const file = { root, try_files: ['{http.regexp.asked.0}/{http.regexp.challenge.1}'] };
  return {
    match: [
      {
        path_regexp: {
          name: 'challenge',
          pattern: `^${CHALLENGE_PATH.replace('.', '\\.')}([A-Za-z0-9_-]+)$`,
        },
      },
    ],
    handle: [
      {
        handler: 'subroute',
        routes: [
          withPlainName('{http.request.host}', 'asked', [
            { match: [{ file }], handle: serveMatched(root), terminal: true },
          ]),
        ],
      },
    ],
  };
};

/** What the client has said in TLS to a load balancer that is believed: redirected, it would come back the same way. */
const IN_TLS_BEFORE = {
  vars: { trusted_proxy: ['true'] },
  header: { 'X-Forwarded-Proto': ['https', 'https,*'] },
};

/** Sends plain HTTP to HTTPS, for hostnames that have a certificate. */
const redirectRoute = (directory: string, { port }: CaddyHttps): object => ({
  // The most asked for of those that are never redirected need no look at the disk.
  match: [{ protocol: 'http', not: [{ host: ['localhost', '*.localhost'] }, IN_TLS_BEFORE] }],
  handle: [
    {
      handler: 'subroute',
      routes: [
        withPlainName('{http.request.host}', 'asked', [
          {
            match: [fileFor(join(directory, HTTPS_ONLY), 'asked')],
            handle: [
              {
                handler: 'static_response',
                status_code: 308,
                headers: {
                  Location: [
                    `https://{http.request.host}${port === 443 ? '' : `:${port}`}{http.request.uri}`,
                  ],
                },
              },
            ],
            terminal: true,
          },
        ]),
      ],
    },
  ],
});

/** What the server of HTTPS has beside its routes. A socket that Caddy is given takes no packets, so HTTP/3 has its own. */
export const httpsServer = ({ listen, listenQuic }: CaddyHttps): object => ({
  listen: [listen, listenQuic],
  listen_protocols: [['h1', 'h2'], ['h3']],
  // What comes before a handshake is complete can be sent again, and with another's address, by whoever has seen it.
  allow_0rtt: false,
  tls_connection_policies: [{}],
});

/** What comes before the routes of hostnames, of HTTP. */
export const routesBeforeHttp = (directory: string, https: CaddyHttps): readonly object[] => [
  challengeRoute(directory),
  redirectRoute(directory, https),
];

/** As routesBeforeHttp, of HTTPS: who asks for a challenge may have been redirected. */
export const routesBeforeHttps = (directory: string): readonly object[] => [challengeRoute(directory)];
