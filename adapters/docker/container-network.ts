/**
 * What the engine says of a running container's attachment to its network.
 */

import type { ContainerInspectInfo } from 'dockerode';

/** Whether it has a network of its own. */
export const isAttached = ({ NetworkSettings }: ContainerInspectInfo): boolean =>
  Object.keys(NetworkSettings.Networks).length > 0;

/**
 * Whether its host ports do not lead to it: an engine that cannot bind them attaches the container all the same,
 * though it says that it failed.
 */
export const lacksHostPorts = ({ HostConfig, NetworkSettings }: ContainerInspectInfo): boolean => {
  const wanted = Object.keys((HostConfig.PortBindings ?? {}) as object);
  const bound = Object.values(NetworkSettings.Ports as Readonly<Record<string, readonly object[] | null>>);
  return wanted.length > 0 && bound.every((ports) => ports === null || ports.length === 0);
};

/** The address of this machine that its host ports are bound to; undefined when it has none, or they are on all. */
export const boundAddress = ({ HostConfig }: ContainerInspectInfo): string | undefined => {
  const bindings = Object.values(
    (HostConfig.PortBindings ?? {}) as Readonly<
      Record<string, readonly { readonly HostIp?: string }[] | null>
    >,
  );
  return bindings.flatMap((ports) => ports ?? []).find(({ HostIp }) => HostIp !== undefined && HostIp !== '')
    ?.HostIp;
};
