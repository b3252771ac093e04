/**
 * The configuration of one ContainerOS process: flags first, then CONTAINEROS_* variables, then defaults.
 *
 * Invariants: every flag has a variable and a line in the help; a value that cannot be used is refused before
 * anything starts, and all of them are named at once.
 */

import { readFileSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { ContainerOsError, type Problem } from '../domain/errors';
import { hostPort } from '../domain/host-port';

import { ACME_FLAGS, parseAcmeSettings, type AcmeSettings } from './acme/acme-settings';
import { readNodeName, type NodeName } from './node-name';
import { ownPrivateAddress } from './own-address';
import { TRUSTED_PROXIES_FLAGS, readTrustedProxies, type TrustedProxiesConfig } from './trusted-proxies';

export interface Config extends NodeName {
  readonly dev: boolean;
  readonly dataDir: string;
  /** What `constraints` of specifications are compared with. */
  readonly nodeLabels: Readonly<Record<string, string>>;
  readonly apiHost: string;
  readonly apiPort: number;
  readonly allowedHosts: readonly string[];
  readonly password: string | undefined;
  readonly advertiseAddress: string;
  /** Where other machines join and nodes report, if this machine can be reached. */
  readonly clusterPort: number;
  readonly dockerSocket: string;
  /** Whether hostnames of microservices answer on this machine. */
  readonly ingress: boolean;
  /** Where they do; undefined: on the port of HTTP, or another one where that cannot be had. */
  readonly httpPort: number | undefined;
  /** As `httpPort`, of HTTPS. */
  readonly httpsPort: number | undefined;
  /** Who is asked for certificates of public hostnames. */
  readonly acme: AcmeSettings;
  /** Load balancers before it. */
  readonly trustedProxies: TrustedProxiesConfig;
  readonly hostPorts: { readonly first: number; readonly last: number };
  readonly allowHostAccess: boolean;
  readonly temporalPort: number;
  readonly temporalUiPort: number;
  /** External server as host:port; undefined: ContainerOS runs its own. */
  readonly temporalAddress: string | undefined;
  readonly temporalNamespace: string;
  readonly consulPort: number;
  /** External agent as URL; undefined: ContainerOS runs its own. */
  readonly consulAddress: string | undefined;
  /** ACL token for the external agent. */
  readonly consulToken: string | undefined;
  readonly temporalBinary: string;
  readonly consulBinary: string;
  readonly caddyBinary: string;
  /** How often the distances between nodes are measured (gossip-timing.ts), milliseconds. */
  readonly gossipEveryMs: number;
  readonly logLevel: string;
  readonly logFormat: 'pretty' | 'json';
}

/** No other program of note has it; 443 for those who know that it is TLS. */
export const DEFAULT_CLUSTER_PORT = 7443;

interface Flag {
  readonly name: string;
  readonly value?: string;
  readonly many?: boolean;
  /** Where the name made from the flag's would not do. */
  readonly variable?: string;
  readonly help: string;
}

/** No flag: command lines can be read by everybody on the machine. */
const CONSUL_TOKEN = 'CONTAINEROS_CONSUL_TOKEN';

/** No flag: nothing that a user would choose. Tests, which cannot wait for half an hour, shorten it. */
const GOSSIP_EVERY = 'CONTAINEROS_GOSSIP_EVERY_MS';
const GOSSIP_EVERY_MS = 60_000;

const FLAGS: readonly Flag[] = [
  { name: 'dev', help: 'For development: the password is "dev", and only this machine can connect.' },
  {
    name: 'data-dir',
    value: 'DIR',
    help: 'Where ContainerOS keeps its data (as root /var/lib/containeros, else ~/.local/share/containeros).',
  },
  {
    name: 'password',
    value: 'TEXT',
    help: 'The master password. Left out, one is generated at the first start and kept in DIR/password.',
  },
  { name: 'api-host', value: 'ADDRESS', help: 'Address on which the API listens (127.0.0.1).' },
  { name: 'api-port', value: 'PORT', help: 'Port of the API (8000).' },
  {
    name: 'allowed-host',
    value: 'HOST',
    many: true,
    help: 'A further host name under which the API may be called. Repeat it, or separate with commas.',
  },
  {
    name: 'advertise-address',
    value: 'ADDRESS',
    help: 'Address on which containers are exposed and under which others reach this node (that in the private network of the default route; 127.0.0.1, which keeps other machines from joining, where there is none and with --dev).',
  },
  {
    name: 'cluster-port',
    value: 'PORT',
    help: 'Port of that address on which other machines join and nodes report (7443).',
  },
  {
    name: 'http-port',
    value: 'PORT',
    help: 'Port on which the hostnames of microservices answer (80; 8080 where that is taken or not allowed).',
  },
  {
    name: 'https-port',
    value: 'PORT',
    help: 'Port on which they answer over HTTPS (443; 8443 where that is taken or not allowed).',
  },
  {
    name: 'no-ingress',
    help: 'Leave the hostnames of microservices to other machines, or to a proxy of your own.',
  },
  ...ACME_FLAGS,
  ...TRUSTED_PROXIES_FLAGS,
  { name: 'host-ports', value: 'FIRST-LAST', help: 'Range from which host ports are taken (20000-29999).' },
  { name: 'node-name', value: 'NAME', help: 'Name of this node (the host name up to its first dot).' },
  {
    name: 'node-label',
    value: 'KEY=VALUE',
    many: true,
    variable: 'CONTAINEROS_NODE_LABELS',
    help: 'A label of this node, for `constraints` of specifications; ingress=false is --no-ingress. Repeat it, or separate with commas.',
  },
  {
    name: 'docker-socket',
    value: 'PATH',
    help: 'Socket of the Docker Engine (DOCKER_HOST, or /var/run/docker.sock).',
  },
  {
    name: 'allow-host-access',
    help: 'Let specifications ask for what gives a container the host: privileged, host paths, host network, dangerous capabilities.',
  },
  { name: 'temporal-port', value: 'PORT', help: 'Port of the embedded Temporal server (7233).' },
  { name: 'temporal-ui-port', value: 'PORT', help: 'Port of the Temporal Web UI (8233).' },
  {
    name: 'temporal-address',
    value: 'HOST:PORT',
    help: 'Use this Temporal server rather than the embedded one.',
  },
  { name: 'temporal-namespace', value: 'NAME', help: 'Namespace in Temporal (default).' },
  {
    name: 'consul-port',
    value: 'PORT',
    help: 'HTTP port of the embedded Consul (8500); its other ports keep their distance to it.',
  },
  { name: 'consul-address', value: 'URL', help: 'Use this Consul agent rather than the embedded one.' },
  {
    name: 'consul-token-file',
    value: 'FILE',
    help: `Has the ACL token for that agent. ${CONSUL_TOKEN} may hold the token itself; a flag would show it to everybody on the machine.`,
  },
  { name: 'log-level', value: 'LEVEL', help: 'trace, debug, info, warn, error (info).' },
  { name: 'log-format', value: 'FORMAT', help: 'pretty or json (pretty on a terminal).' },
];

const variableOf = (flag: string) =>
  FLAGS.find(({ name }) => name === flag)?.variable ??
  `CONTAINEROS_${flag.toUpperCase().replaceAll('-', '_')}`;

/** The text of `containeros up --help`. */
export const configHelp = (): string =>
  FLAGS.map(({ name, value, help }) => {
    const left = `  --${name}${value === undefined ? '' : ` ${value}`}`;
    return `${left.padEnd(32)}${help}\n${' '.repeat(32)}${variableOf(name)}`;
  }).join('\n');

type Environment = Readonly<Record<string, string | undefined>>;
type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

const parseFlags = (argv: readonly string[]): Values => {
  try {
    return parseArgs({
      args: [...argv],
      options: Object.fromEntries(
        FLAGS.map(({ name, value, many }) => [
          name,
          { type: value === undefined ? ('boolean' as const) : ('string' as const), multiple: many === true },
        ]),
      ),
      strict: true,
      allowPositionals: false,
    }).values;
  } catch (error) {
    throw new ContainerOsError('invalid', `${(error as Error).message}. See containeros up --help.`);
  }
};

/** As `constraints` of a specification may ask for it. */
const NODE_LABEL = /^([^=]{1,256})=(.{0,256})$/s;

export const isLoopback = (host: string) => host === 'localhost' || host === '::1' || /^127\./.test(host);

const readToken = (file: string, refuse: (message: string) => void): string | undefined => {
  try {
    const token = readFileSync(file, 'utf8').trim();
    if (token !== '') return token;
    refuse(`${file} is empty`);
  } catch (error) {
    refuse(`cannot be read: ${(error as Error).message}`);
  }
  return undefined;
};

/** Where data is kept when nobody says otherwise. */
export const defaultDataDir = (isRoot: boolean): string =>
  isRoot ? '/var/lib/containeros' : `${homedir()}/.local/share/containeros`;

/**
 * @param argv flags, without the command
 * @param environment usually process.env
 * @param isRoot whether the process runs as root: decides where data is kept by default
 * @param detectAddress finds the address under which others reach this machine
 * @param readHostname the host name, by which the node is called when nobody says otherwise
 * @throws ContainerOsError `invalid`, with every problem
 */
export const parseConfig = (
  argv: readonly string[],
  environment: Environment,
  isRoot: boolean,
  detectAddress: () => string | undefined = ownPrivateAddress,
  readHostname: () => string = hostname,
): Config => {
  const values = parseFlags(argv);
  const problems: Problem[] = [];
  const text = (flag: string): string | undefined => {
    const given = values[flag];
    if (typeof given === 'string') return given;
    const variable = environment[variableOf(flag)];
    return variable === '' ? undefined : variable;
  };
  const isSet = (flag: string): boolean => {
    if (values[flag] === true) return true;
    const variable = environment[variableOf(flag)]?.toLowerCase();
    if (variable === undefined || ['', '0', 'false', 'no'].includes(variable)) return false;
    if (['1', 'true', 'yes'].includes(variable)) return true;
    problems.push({ path: variableOf(flag), message: 'must be 1 or 0' });
    return false;
  };
  const list = (flag: string): string[] => {
    const given = values[flag];
    const parts = Array.isArray(given) ? given.map(String) : [environment[variableOf(flag)] ?? ''];
    return parts
      .flatMap((part) => part.split(','))
      .map((part) => part.trim())
      .filter((part) => part !== '');
  };
  const port = (flag: string, fallback: number): number => {
    const given = text(flag);
    if (given === undefined) return fallback;
    const number = Number(given);
    if (!/^\d+$/.test(given) || number < 1 || number > 65_535) {
      problems.push({ path: `--${flag}`, message: `must be a port from 1 to 65535, not ${given}` });
    }
    return number;
  };

  const dev = isSet('dev');
  const apiHost = text('api-host') ?? '127.0.0.1';
  if (dev && !isLoopback(apiHost)) {
    problems.push({
      path: '--dev',
      message: `has the password "dev", so the API may listen on 127.0.0.1 only, not on ${apiHost}. Leave --dev out`,
    });
  }
  const password = text('password');
  // The commands of a cluster started with --dev have CONTAINEROS_PASSWORD=dev, often in the same shell.
  if (dev && password !== undefined && password !== 'dev')
    problems.push({
      path: '--dev',
      message: 'sets the password; leave --password and CONTAINEROS_PASSWORD out',
    });
  if (!dev && password !== undefined && password.length < 8)
    problems.push({ path: '--password', message: 'or CONTAINEROS_PASSWORD must have 8 characters at least' });

  const nodeLabels: Record<string, string> = {};
  for (const label of list('node-label')) {
    const [, key, value] = NODE_LABEL.exec(label) ?? [];
    if (key === undefined || value === undefined) {
      problems.push({
        path: '--node-label',
        message: `must be KEY=VALUE like disk=ssd, each of 256 characters at most, not "${label}"`,
      });
    } else if (Object.hasOwn(nodeLabels, key)) {
      problems.push({ path: '--node-label', message: `sets ${key} twice` });
    } else nodeLabels[key] = value;
  }

  const ingressLabel = nodeLabels['ingress'] ?? 'true';
  if (!['true', 'false'].includes(ingressLabel)) {
    problems.push({
      path: '--node-label',
      message: `ingress must be true or false, not "${ingressLabel}": whether hostnames answer on this node`,
    });
  }

  const range = /^(\d+)-(\d+)$/.exec(text('host-ports') ?? '20000-29999');
  const first = Number(range?.[1]);
  const last = Number(range?.[2]);
  if (!range || first < 1 || last > 65_535 || first > last) {
    problems.push({ path: '--host-ports', message: 'must be a range of ports like 20000-29999' });
  }

  const dockerHost = environment['DOCKER_HOST'];
  if (
    text('docker-socket') === undefined &&
    dockerHost !== undefined &&
    dockerHost !== '' &&
    !dockerHost.startsWith('unix://')
  ) {
    problems.push({
      path: 'DOCKER_HOST',
      message: `must be a unix socket on this machine, not ${dockerHost}`,
    });
  }

  const consulAddress = text('consul-address');
  if (consulAddress !== undefined && !URL.canParse(consulAddress)) {
    problems.push({ path: '--consul-address', message: 'must be a URL like http://127.0.0.1:8500' });
  }
  const consulTokenFile = text('consul-token-file');
  const tokenSource = consulTokenFile === undefined ? CONSUL_TOKEN : '--consul-token-file';
  const consulToken =
    consulTokenFile === undefined
      ? environment[CONSUL_TOKEN]?.trim() || undefined
      : readToken(consulTokenFile, (message) => problems.push({ path: tokenSource, message }));
  if (consulTokenFile !== undefined && environment[CONSUL_TOKEN])
    problems.push({ path: tokenSource, message: `and ${CONSUL_TOKEN} are both given; leave one out` });
  if (consulToken !== undefined && consulAddress === undefined)
    problems.push({ path: tokenSource, message: 'is for the Consul agent that --consul-address names' });
  if (consulToken !== undefined && !/^[\x21-\x7e]+$/.test(consulToken))
    problems.push({ path: tokenSource, message: 'must hold one token and nothing else' });
  const temporalAddress = text('temporal-address');
  if (temporalAddress !== undefined && !/^[^:/\s]+:\d+$/.test(temporalAddress)) {
    problems.push({ path: '--temporal-address', message: 'must be HOST:PORT' });
  }
  const consulPort = port('consul-port', 8500);
  if (consulPort < 201) problems.push({ path: '--consul-port', message: 'must be 201 at least' });
  const gossipEveryMs = Number(environment[GOSSIP_EVERY] || GOSSIP_EVERY_MS);
  if (!Number.isInteger(gossipEveryMs) || gossipEveryMs < 100)
    problems.push({ path: GOSSIP_EVERY, message: 'must be a number of milliseconds, 100 at least' });
  const logFormat = text('log-format') ?? (environment['CONTAINEROS_LOG_TTY'] === '1' ? 'pretty' : 'json');
  if (logFormat !== 'pretty' && logFormat !== 'json')
    problems.push({ path: '--log-format', message: 'must be pretty or json' });
  const logLevel = text('log-level') ?? 'info';
  if (!['trace', 'debug', 'info', 'warn', 'error'].includes(logLevel)) {
    problems.push({ path: '--log-level', message: 'must be trace, debug, info, warn or error' });
  }

  const config: Config = {
    dev,
    dataDir: resolve(text('data-dir') ?? defaultDataDir(isRoot)),
    ...readNodeName(text('node-name'), readHostname(), (message) =>
      problems.push({ path: '--node-name', message }),
    ),
    nodeLabels,
    apiHost,
    apiPort: port('api-port', 8000),
    allowedHosts: list('allowed-host'),
    password: dev ? 'dev' : password,
    advertiseAddress:
      text('advertise-address') ??
      (dev || consulAddress !== undefined ? undefined : detectAddress()) ??
      '127.0.0.1',
    clusterPort: port('cluster-port', DEFAULT_CLUSTER_PORT),
    dockerSocket: text('docker-socket') ?? (dockerHost?.replace('unix://', '') || '/var/run/docker.sock'),
    ingress: !isSet('no-ingress') && ingressLabel === 'true',
    httpPort: text('http-port') === undefined ? undefined : port('http-port', 80),
    httpsPort: text('https-port') === undefined ? undefined : port('https-port', 443),
    acme: parseAcmeSettings({
      text,
      isSet,
      environment,
      isDev: dev,
      refuse: (problem) => problems.push(problem),
    }),
    trustedProxies: readTrustedProxies(list('trusted-proxies'), isSet('proxy-protocol'), (problem) =>
      problems.push(problem),
    ),
    hostPorts: { first, last },
    allowHostAccess: isSet('allow-host-access'),
    temporalPort: port('temporal-port', 7233),
    temporalUiPort: port('temporal-ui-port', 8233),
    temporalAddress,
    temporalNamespace: text('temporal-namespace') ?? 'default',
    consulPort,
    consulAddress,
    consulToken,
    temporalBinary: environment['CONTAINEROS_TEMPORAL_BIN'] ?? 'temporal',
    consulBinary: environment['CONTAINEROS_CONSUL_BIN'] ?? 'consul',
    caddyBinary: environment['CONTAINEROS_CADDY_BIN'] ?? 'caddy',
    gossipEveryMs,
    logLevel,
    logFormat: logFormat === 'pretty' ? 'pretty' : 'json',
  };
  if (problems.length > 0) {
    throw new ContainerOsError(
      'invalid',
      `The configuration cannot be used:\n${problems.map(({ path, message }) => `  ${path} ${message}`).join('\n')}`,
      problems,
    );
  }
  return config;
};

/** Ports of the embedded Consul: as far from the HTTP port as Consul's own defaults are. */
export const consulPorts = (config: Config) => ({
  http: config.consulPort,
  server: config.consulPort - 200,
  serfLan: config.consulPort - 199,
  dns: config.consulPort + 100,
});

export const temporalAddressOf = (config: Config): string =>
  config.temporalAddress ?? `127.0.0.1:${config.temporalPort}`;

export const consulAddressOf = (config: Config): string =>
  config.consulAddress ?? `http://127.0.0.1:${config.consulPort}`;

/**
 * Whether other machines can join: this one has to be reachable, and to run the cluster's Consul. With --dev, and on
 * the loopback interface, everything stays on this machine.
 */
export const isJoinable = (config: Config): boolean =>
  !config.dev && config.consulAddress === undefined && !isLoopback(config.advertiseAddress);

/** host:port that nodes dial. */
export const clusterAddressOf = ({ advertiseAddress, clusterPort }: Config): string =>
  hostPort(advertiseAddress, clusterPort);
