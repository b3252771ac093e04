/** Which ports an installation needs, and whether they can be had: all that are taken are named at once. */

import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

import { ContainerOsError } from '../../domain/errors';
import type { ReservedPort } from '../../domain/spec/public-ports';
import { consulPorts, isJoinable, type Config } from '../config';
import { ingressHost, type IngressConfig } from '../ingress-files';

import type { ConsulSettingsInput } from './consul-settings';

export interface PortNeed {
  /** Empty: every address of the machine, of IPv4 and of IPv6. */
  readonly host: string;
  readonly port: number;
  readonly what: string;
  /** What chooses another one. */
  readonly flag: string;
  /** Of TCP, unless this says otherwise. */
  readonly protocol?: 'udp';
}

const CONSUL = 'Consul';

/** What a Consul of this kind listens on; what others use is on the network once there are others. */
export const consulPortNeeds = (config: Config, kind: ConsulSettingsInput['kind']): readonly PortNeed[] => {
  const { http, dns, server, serfLan } = consulPorts(config);
  const need = (host: string) => (port: number) => ({ host, port, what: CONSUL, flag: '--consul-port' });
  return [
    ...[http, dns].map(need('127.0.0.1')),
    ...[serfLan, ...(kind === 'client' ? [] : [server])].map(
      need(kind === 'alone' ? '127.0.0.1' : config.advertiseAddress),
    ),
  ];
};

/** What everything on one machine listens on. */
export const portNeeds = (config: Config): readonly PortNeed[] => [
  { host: config.apiHost, port: config.apiPort, what: 'the API', flag: '--api-port' },
  ...(config.temporalAddress === undefined
    ? [
        { host: '127.0.0.1', port: config.temporalPort, what: 'Temporal', flag: '--temporal-port' },
        {
          host: '127.0.0.1',
          port: config.temporalUiPort,
          what: 'the Temporal Web UI',
          flag: '--temporal-ui-port',
        },
      ]
    : []),
  ...(config.consulAddress === undefined
    ? consulPortNeeds(config, isJoinable(config) ? 'server' : 'alone')
    : []),
  ...(isJoinable(config)
    ? [
        {
          host: config.advertiseAddress,
          port: config.clusterPort,
          what: 'joining and nodes',
          flag: '--cluster-port',
        },
      ]
    : []),
];

/** In words. */
export const placeOf = ({ host, port }: Pick<PortNeed, 'host' | 'port'>): string =>
  host === '' ? `port ${port}` : `${host}:${port}`;

const inWords = (error: NodeJS.ErrnoException): string =>
  error.code === 'EADDRINUSE' ? 'is in use' : `cannot be opened (${error.message})`;

const udpPortProblem = (host: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(inWords(error)));
    socket.bind({ ...(host === '' ? {} : { address: host }), port, exclusive: true }, () =>
      socket.close(() => resolve(undefined)),
    );
  });

const portProblem = (host: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(inWords(error)));
    // Without a host, Node.js takes every address, and those of IPv4 where there is no IPv6.
    server.listen({ ...(host === '' ? {} : { host }), port, exclusive: true }, () =>
      server.close(() => resolve(undefined)),
    );
  });

/** @throws ContainerOsError `conflict` that names every port that is taken, and the flag that changes it */
export const checkPorts = async (needs: readonly PortNeed[]): Promise<void> => {
  const problems: string[] = [];
  for (const { host, port, what, flag, protocol } of needs) {
    const problem = await (protocol === 'udp' ? udpPortProblem : portProblem)(host, port);
    if (problem !== undefined)
      problems.push(`  ${placeOf({ host, port })} for ${what} ${problem}; choose another with ${flag}`);
  }
  if (problems.length > 0) {
    throw new ContainerOsError(
      'conflict',
      `ContainerOS cannot start, because of its ports:\n${problems.join('\n')}`,
    );
  }
};

const HTTPS = { what: 'HTTPS of hostnames', flag: '--https-port or --no-ingress' } as const;

/** What the ingress listens on, each as a socket that Caddy is given, in this order (see caddySettings). */
export const ingressPortNeeds = (config: IngressConfig): readonly PortNeed[] => {
  const host = ingressHost(config);
  return [
    {
      host,
      port: config.httpPort,
      what: 'hostnames of microservices',
      flag: '--http-port or --no-ingress',
    },
    ...(config.httpsPort === undefined ? [] : [{ host, port: config.httpsPort, ...HTTPS }]),
  ];
};

/** What it takes packets on by itself, for HTTP/3. */
export const quicPortNeeds = (config: IngressConfig): readonly PortNeed[] =>
  config.httpsPort === undefined
    ? []
    : [{ host: ingressHost(config), port: config.httpsPort, ...HTTPS, protocol: 'udp' }];

/** As long as somebody else has it, nobody gets it; but whoever waits for it gets it while that one starts again. */
const SSH: ReservedPort = { port: 22, protocol: 'tcp', what: 'SSH' };

const reservedFor = (config: Config, needs: readonly PortNeed[]): readonly ReservedPort[] => {
  const { httpPort } = config;
  const ofIngress =
    !config.ingress || httpPort === undefined
      ? []
      : [...ingressPortNeeds({ ...config, httpPort }), ...quicPortNeeds({ ...config, httpPort })];
  const own = [...needs, ...ofIngress].flatMap(({ port, what, protocol }): readonly ReservedPort[] => {
    if (what !== CONSUL) return [{ port, what, protocol: protocol ?? 'tcp' }];
    // Its gossip and its DNS are of both.
    return (['tcp', 'udp'] as const).map((one) => ({ port, what, protocol: one }));
  });
  return [SSH, ...own];
};

/** What no microservice gets on the head node, and so on none. */
export const reservedPorts = (config: Config): readonly ReservedPort[] =>
  reservedFor(config, portNeeds(config));

/** What no microservice gets on a machine that has joined: its Consul and its ingress may have other ports. */
export const reservedPortsOfMember = (config: Config): readonly ReservedPort[] =>
  reservedFor(config, consulPortNeeds(config, 'client'));

/** The second one is for people who may not use the first, and beside a program that does. */
const HTTP_PORTS = [80, 8080] as const;

/**
 * @param usual what is tried, in this order, unless a port is asked for
 * @returns the port of the ingress; undefined when there is to be none
 */
export const chooseHttpPort = async (
  config: Pick<Config, 'ingress' | 'httpPort' | 'dev' | 'advertiseAddress'>,
  [first, second]: readonly [number, number] = HTTP_PORTS,
): Promise<number | undefined> => {
  if (!config.ingress) return undefined;
  if (config.httpPort !== undefined) return config.httpPort;
  return (await portProblem(ingressHost(config), first)) === undefined ? first : second;
};

const HTTPS_PORTS = [443, 8443] as const;

/** As chooseHttpPort, of HTTPS. */
export const chooseHttpsPort = async (
  config: Pick<Config, 'ingress' | 'httpsPort' | 'dev' | 'advertiseAddress'>,
  [first, second]: readonly [number, number] = HTTPS_PORTS,
): Promise<number | undefined> => {
  if (!config.ingress) return undefined;
  if (config.httpsPort !== undefined) return config.httpsPort;
  const host = ingressHost(config);
  const problems = await Promise.all([portProblem(host, first), udpPortProblem(host, first)]);
  return problems.every((problem) => problem === undefined) ? first : second;
};

/** Between the host ports of replicas and those that the system gives to whoever asks for any. */
const DOOR_PORTS = { first: 30_000, last: 32_767 } as const;
const DOOR_TRIES = 50;

/** A free port of the loopback interface, for Caddy's questions to itself. @throws {ContainerOsError} `conflict` */
export const chooseDoorPort = async (): Promise<number> => {
  for (let tried = 0; tried < DOOR_TRIES; tried += 1) {
    const port = randomInt(DOOR_PORTS.first, DOOR_PORTS.last + 1);
    if ((await portProblem('127.0.0.1', port)) === undefined) return port;
  }
  throw new ContainerOsError(
    'conflict',
    `No port of 127.0.0.1 from ${DOOR_PORTS.first} to ${DOOR_PORTS.last} is free, and the ingress needs one. See what has them, or start with --no-ingress.`,
  );
};
