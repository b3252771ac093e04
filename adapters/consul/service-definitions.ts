/**
 * What a container's ports are in Consul: one service instance a port. Pure.
 *
 * Names: the first port of a microservice is the service `<microservice>`, each further one
 * `<microservice>-<port>`; the first is the lowest HTTP port, else the first TCP port, else the first. Names
 * of other projects than the default one end in `-<project>`. All are DNS labels, so that `<name>.service.consul`
 * resolves. Programs should rather go by the metadata, which is exact.
 */

import type { StartReplica } from '../../contracts/activities';
import { SERVICE_META, SERVICE_TAG } from '../../contracts/docker';
import { portServiceId, portServiceNames } from '../../contracts/services';
import { isLedTo } from '../../domain/ingress/route-options';
import type { ObservedPort } from '../../domain/model';
import type { CheckSpec, ContainerSpec, PortSpec } from '../../domain/spec/schema';
import { hostInUrl } from '../../domain/host-port';
import type { AgentCheckDefinition, AgentServiceDefinition } from './consul-agent';

/** A check that the node worker feeds; it stays as it is while the node worker is away. */
const FED_CHECK_TTL = '24h';

export interface ServicePlace {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly advertiseAddress: string;
}

/** Where one container is: its own address for the checks, its host ports for everybody else. */
export interface ContainerPlace {
  readonly address: string;
  /** Host ports by `port/protocol`; the container's own port where there is none. */
  readonly hostPorts: ReadonlyMap<string, number>;
}

/** @param check the check's place in the container's specification */
export const serviceCheckId = (service: string, check: number): string => `${service}:${check}`;

export const serviceName = (replica: StartReplica, port: PortSpec): string => {
  const all = replica.release.spec.containers.flatMap(({ ports }) => ports);
  const first =
    all.filter(isLedTo).sort((a, b) => a.port - b.port)[0] ??
    all.find(({ protocol }) => protocol === 'tcp') ??
    all[0];
  const isFirst = first !== undefined && first.port === port.port && first.protocol === port.protocol;
  return portServiceNames(replica, port)[isFirst ? 'first' : 'further'];
};

export const observedPorts = (
  replica: StartReplica,
  advertiseAddress: string,
  hostPorts: ReadonlyMap<string, number>,
): ObservedPort[] =>
  replica.release.spec.containers.flatMap((container) =>
    container.ports.map((port) => ({
      container: container.name,
      port: port.port,
      protocol: port.protocol,
      address: advertiseAddress,
      hostPort: hostPorts.get(`${port.port}/${port.protocol}`) ?? port.port,
      serviceId: portServiceId(replica.replicaId, container.name, port),
      hostnames: port.hostnames,
      ...(port.publicPorts === undefined ? {} : { publicPorts: port.publicPorts }),
      ...(port.proxyProtocol === undefined ? {} : { proxyProtocol: port.proxyProtocol }),
    })),
  );

/** Checks begin as passing: the container has just been seen to serve. */
export const serviceDefinitions = (
  replica: StartReplica,
  container: ContainerSpec,
  place: ServicePlace,
  at: ContainerPlace,
): AgentServiceDefinition[] =>
  container.ports.map((port) => {
    const id = portServiceId(replica.replicaId, container.name, port);
    const protocol = isLedTo(port) ? 'http' : port.protocol;
    return {
      ID: id,
      Name: serviceName(replica, port),
      Tags: [SERVICE_TAG, `release-${replica.release.number}`, protocol],
      Meta: {
        [SERVICE_META.cluster]: place.clusterId,
        [SERVICE_META.project]: replica.project,
        [SERVICE_META.microservice]: replica.name,
        [SERVICE_META.release]: String(replica.release.number),
        [SERVICE_META.replica]: replica.replicaId,
        [SERVICE_META.container]: container.name,
        [SERVICE_META.port]: String(port.port),
        [SERVICE_META.protocol]: protocol,
        [SERVICE_META.node]: place.nodeId,
      },
      Address: place.advertiseAddress,
      Port: at.hostPorts.get(`${port.port}/${port.protocol}`) ?? port.port,
      Checks: checksOf(container, port).map(({ check, index }) =>
        checkDefinition(serviceCheckId(id, index), check, at.address),
      ),
    };
  });

/** The index is the check's place in the container's specification. */
export const checksOf = (
  container: ContainerSpec,
  port: PortSpec,
): readonly { readonly check: CheckSpec; readonly index: number }[] => {
  const all = container.checks.map((check, index) => ({ check, index }));
  const exposed = container.ports.filter(({ protocol }) => protocol === 'tcp').map((one) => one.port);
  const own = all.filter(
    ({ check }) => check.kind === 'command' || check.port === port.port || !exposed.includes(check.port),
  );
  // A port without a check of its own is as healthy as its container.
  return own.length > 0 ? own : all;
};

const checkDefinition = (checkId: string, check: CheckSpec, address: string): AgentCheckDefinition => {
  const host = hostInUrl(address);
  const common = { CheckID: checkId, Status: 'passing' } as const;
  const timing = {
    Interval: `${check.intervalMs}ms`,
    Timeout: `${check.timeoutMs}ms`,
    FailuresBeforeCritical: check.failures,
  };
  switch (check.kind) {
    case 'http':
      return {
        ...common,
        ...timing,
        Name: `HTTP ${check.port}${check.path}`,
        HTTP: `http://${host}:${check.port}${check.path}`,
        Method: 'GET',
      };
    case 'tcp':
      return { ...common, ...timing, Name: `TCP ${check.port}`, TCP: `${host}:${check.port}` };
    case 'command':
      return { ...common, Name: 'Command', TTL: FED_CHECK_TTL };
  }
};
