// What other proxies are told, as a person would write it for the same job: hostnames that lead to endpoints, least
// connections, keep-alive on both sides, HTTP/1.1, no log of requests. Pure.
// Invariant: all of them get the same hostnames, endpoints, and as many threads or workers.

export interface ProxiedRoute {
  readonly hostname: string;
  /** Like 127.0.0.1:20000. */
  readonly endpoints: readonly string[];
}

/** Files of certificate chain and key; HAProxy has both in one. */
export interface CertificatePaths {
  readonly chain: string;
  readonly key: string;
  readonly both: string;
}

export interface ProxySettings {
  /** On the loopback. */
  readonly port: number;
  /** Left out: requests come without TLS. */
  readonly certificate?: CertificatePaths;
  readonly routes: readonly ProxiedRoute[];
  readonly workers: number;
  /** Where the program may put files of its own. */
  readonly folder: string;
}

/** How many idle connections to endpoints are kept. */
const KEPT = 64;
/** None is ended for the number of its requests. */
const NEVER = 1_000_000_000;

/** Caddy takes as many threads as there are cores; its workers are told by GOMAXPROCS. */
export const caddyfile = ({ port, routes, certificate }: ProxySettings): string =>
  [
    `{\n\tadmin off\n\tauto_https ${certificate === undefined ? 'off' : 'disable_redirects'}\n}`,
    ...routes.map(
      ({ hostname, endpoints }) =>
        `${certificate === undefined ? 'http' : 'https'}://${hostname}:${port} {\n\tbind 127.0.0.1\n${certificate === undefined ? '' : `\ttls ${certificate.chain} ${certificate.key}\n`}\treverse_proxy ${endpoints.join(' ')} {\n\t\tlb_policy least_conn\n\t}\n}`,
    ),
    '',
  ].join('\n');

export const haproxyConfig = ({ port, routes, workers, certificate }: ProxySettings): string =>
  [
    'global',
    `  nbthread ${workers}`,
    'defaults',
    '  mode http',
    '  http-reuse always',
    '  option forwardfor',
    '  timeout connect 2s',
    '  timeout client 1m',
    '  timeout server 1m',
    'frontend in',
    `  bind 127.0.0.1:${port}${certificate === undefined ? '' : ` ssl crt ${certificate.both}`}`,
    ...routes.map(({ hostname }, index) => `  use_backend route${index} if { req.hdr(host) -i ${hostname} }`),
    ...routes.flatMap(({ endpoints }, index) => [
      `backend route${index}`,
      '  balance leastconn',
      ...endpoints.map((endpoint, server) => `  server endpoint${server} ${endpoint}`),
    ]),
    '',
  ].join('\n');

export const nginxConfig = ({ port, routes, workers, folder, certificate }: ProxySettings): string =>
  nginx(folder, workers, [
    ...routes.map(({ hostname, endpoints }, index) =>
      [
        `  upstream route${index} {`,
        '    least_conn;',
        ...endpoints.map((endpoint) => `    server ${endpoint};`),
        `    keepalive ${KEPT};`,
        `    keepalive_requests ${NEVER};`,
        '  }',
        '  server {',
        `    listen 127.0.0.1:${port}${certificate === undefined ? '' : ' ssl'};`,
        ...(certificate === undefined
          ? []
          : [`    ssl_certificate ${certificate.chain};`, `    ssl_certificate_key ${certificate.key};`]),
        `    server_name ${hostname};`,
        '    location / {',
        `      proxy_pass http://route${index};`,
        '      proxy_http_version 1.1;',
        '      proxy_set_header Connection "";',
        '      proxy_set_header Host $host;',
        '      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;',
        '    }',
        '  }',
      ].join('\n'),
    ),
  ]);

export interface Backend {
  readonly port: number;
  /** What it answers to everything but /large. */
  readonly says: string;
  /** Gets a line for each answer: when it was sent, in seconds since 1970. */
  readonly log?: string;
}

/** Servers that answer at once, on every address of the loopback. @param folder that has a file `large` */
export const backendsConfig = (folder: string, workers: number, backends: readonly Backend[]): string =>
  nginx(folder, workers, [
    "  log_format time '$msec';",
    ...backends.map(({ port, says, log }) =>
      [
        '  server {',
        `    listen ${port};`,
        ...(log === undefined ? [] : [`    access_log ${log} time;`]),
        `    location / { return 200 "${says}\\n"; }`,
        `    location = /large { root ${folder}; }`,
        '  }',
      ].join('\n'),
    ),
  ]);

const nginx = (folder: string, workers: number, http: readonly string[]): string =>
  [
    'daemon off;',
    'user root;',
    `worker_processes ${workers};`,
    `pid ${folder}/nginx.pid;`,
    `error_log ${folder}/nginx.log;`,
    'events { worker_connections 4096; }',
    'http {',
    '  access_log off;',
    '  sendfile on;',
    '  tcp_nopush on;',
    '  open_file_cache max=100;',
    '  server_names_hash_max_size 8192;',
    `  keepalive_requests ${NEVER};`,
    ...['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (what) => `  ${what}_temp_path ${folder}/${what};`,
    ),
    ...http,
    '}',
    '',
  ].join('\n');
