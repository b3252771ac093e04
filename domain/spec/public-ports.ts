/** Ports under `publicPorts`: from what users write to what a release holds, and back. */

import { publicPortInWords, type ProxyProtocol } from '../ingress/public-ports';
import { parsePort, type SchemaContainer } from './normalise';
import type { PortSpec, RawContainerSpec } from './schema';
import type { LenientContainer, Path, Places } from './well-formed';

type Written = NonNullable<SchemaContainer['publicPorts']>[string];
type Raw = NonNullable<RawContainerSpec['publicPorts']>[string];

/** Claimed in one transaction of Consul (64 operations) together with 50 hostnames. */
const MAX_PUBLIC_PORTS = 10;

/** A public port that users may not have. */
export interface ReservedPort {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** Who has it, like "the API". */
  readonly what: string;
}

interface WrittenPorts {
  readonly ports: readonly number[];
  /** Where each port stands below its container port. */
  readonly placeOf: (index: number) => Path;
  readonly proxyProtocol?: ProxyProtocol;
}

const readWritten = (written: Written | []): WrittenPorts => {
  if (typeof written === 'number') return { ports: [written], placeOf: () => [] };
  if (Array.isArray(written)) return { ports: written, placeOf: (index) => [index] };
  const { port, proxyProtocol } = written;
  const isOne = typeof port === 'number';
  return {
    ports: isOne ? [port] : port,
    placeOf: (index) => (isOne ? ['port'] : ['port', index]),
    ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
  };
};

/** @returns what a container port has of public ports, for a specification that has passed the rules */
export const normalisePublicPorts = (written: Written): Pick<PortSpec, 'publicPorts' | 'proxyProtocol'> => {
  const { ports, proxyProtocol } = readWritten(written);
  return {
    publicPorts: [...ports].sort((a, b) => a - b),
    ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
  };
};

/** @returns what stands under `publicPorts` for ports that have some */
export const publicPortsToUser = (ports: readonly PortSpec[]): NonNullable<RawContainerSpec['publicPorts']> =>
  Object.fromEntries(
    ports.map(({ port, protocol, publicPorts = [], proxyProtocol }): [string, Raw] => {
      const [first = port] = publicPorts;
      const raw = publicPorts.length === 1 ? first : [...publicPorts];
      return [
        protocol === 'tcp' ? String(port) : `${port}/${protocol}`,
        proxyProtocol === undefined ? raw : { port: raw, proxyProtocol },
      ];
    }),
  );

export interface PlacedProblem {
  readonly place: Path;
  readonly message: string;
}

interface Asked {
  readonly container: string;
  readonly place: Path;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

export interface PublicPortPolicy {
  readonly reservedPorts: readonly ReservedPort[];
  /** Whether the containers listen in the machine's own network. */
  readonly hostNetwork: boolean;
}

const wrongWith = (asked: Asked, { reservedPorts, hostNetwork }: PublicPortPolicy): string | undefined => {
  const { port, protocol, containerPort } = asked;
  const words = publicPortInWords(asked);
  const reserved = reservedPorts.find((one) => one.port === port && one.protocol === protocol);
  if (reserved !== undefined)
    return `is ${words}, which ContainerOS uses for ${reserved.what}; choose another one`;
  return hostNetwork && port === containerPort
    ? `is ${words}, on which the container itself listens with "hostNetwork"; choose another one`
    : undefined;
};

/**
 * @param containers the well-formed parts of containers, by name
 * @param places where they stand in the document
 */
export const checkPublicPorts = (
  containers: Readonly<Record<string, Pick<LenientContainer, 'publicPorts' | 'httpPorts'>>>,
  policy: PublicPortPolicy,
  places: Places,
): readonly PlacedProblem[] => {
  const all = Object.entries(containers).flatMap(([container, { publicPorts = {}, httpPorts = {} }]) =>
    Object.entries(publicPorts).map(([key, written]) => {
      const target = parsePort(key);
      const speaksHttp = target.protocol === 'tcp' && Object.hasOwn(httpPorts, String(target.port));
      const place: Path = ['containers', container, 'publicPorts', key];
      return { container, place, written: readWritten(written), target, speaksHttp };
    }),
  );
  const asked = all.flatMap(({ container, place, written, target }) =>
    written.ports.map((port, index): Asked => ({
      container,
      place: [...place, ...written.placeOf(index)],
      containerPort: target.port,
      protocol: target.protocol,
      port,
    })),
  );
  const seen = new Map<string, Path>();
  const wrong = asked.flatMap((one): readonly PlacedProblem[] => {
    const words = publicPortInWords(one);
    const first = seen.get(words);
    if (first !== undefined) {
      return [{ place: one.place, message: `is ${words} again: ${places.pointer(first)} has it already` }];
    }
    seen.set(words, one.place);
    const message = wrongWith(one, policy);
    return message === undefined ? [] : [{ place: one.place, message }];
  });
  const unheard = all.flatMap(({ place, written, target, speaksHttp }): readonly PlacedProblem[] => {
    if (written.proxyProtocol === undefined) return [];
    const here = [...place, 'proxyProtocol'];
    if (target.protocol === 'udp') return [{ place: here, message: 'must be given with a TCP port only' }];
    const message =
      'must not be given with a port that stands in "httpPorts": what comes by a hostname has the client\'s address in X-Forwarded-For';
    return speaksHttp ? [{ place: here, message }] : [];
  });
  const tooMany =
    asked.length > MAX_PUBLIC_PORTS
      ? [
          {
            place: ['containers'],
            message: `must have ${MAX_PUBLIC_PORTS} public ports at most, not ${asked.length}`,
          },
        ]
      : [];
  return [...tooMany, ...wrong, ...unheard];
};
