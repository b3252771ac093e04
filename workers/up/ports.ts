/** Which ports an installation needs, and whether they can be had: all that are taken are named at once. */

import { createServer } from 'node:net';

import { ContainerOsError } from '../../domain/errors';
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
}

/** What a Consul of this kind listens on; what others use is on the network once there are others. */
export const consulPortNeeds = (config: Config, kind: ConsulSettingsInput['kind']): readonly PortNeed[] => {
  const { http, dns, server, serfLan } = consulPorts(config);
  const need = (host: string) => (port: number) => ({ host, port, what: 'Consul', flag: '--consul-port' });
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

const portProblem = (host: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'EADDRINUSE' ? 'is in use' : `cannot be opened (${error.message})`),
    );
    // Without a host, Node.js takes every address, and those of IPv4 where there is no IPv6.
    server.listen({ ...(host === '' ? {} : { host }), port, exclusive: true }, () =>
      server.close(() => resolve(undefined)),
    );
  });

/** @throws ContainerOsError `conflict` that names every port that is taken, and the flag that changes it */
export const checkPorts = async (needs: readonly PortNeed[]): Promise<void> => {
  const problems: string[] = [];
  for (const { host, port, what, flag } of needs) {
    const problem = await portProblem(host, port);
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

/** What the ingress listens on, each as a socket that Caddy is given, in this order (see caddySettings). */
export const ingressPortNeeds = (config: IngressConfig): readonly PortNeed[] => [
  {
    host: ingressHost(config),
    port: config.httpPort,
    what: 'hostnames of microservices',
    flag: '--http-port or --no-ingress',
  },
];

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
