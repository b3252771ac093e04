// The ingress with many hostnames and endpoints: what it takes, what requests and changes cost, beside a Caddy that was
// configured by hand with the same ones.
import { setTimeout as delay } from 'node:timers/promises';
import { followReplica } from '../ingress/following';
import { startBackends, startProxy, type Backends } from '../ingress/ingress-bed';
import { answersAt, startOwnIngress, type OwnIngress } from '../ingress/own-ingress';
import { startWrk } from '../ingress/programs';
import type { ProxiedRoute } from '../ingress/proxies';
import { measureRequests, type Measurable } from '../ingress/requests';
import { followMetric, ingressMemoryMetric, type Measurements } from '../measurements';
import { timed, until } from '../peer';
import type { IngressCaseOptions } from '../run-ingress';
import { FOLLOW_LIMIT_MS } from './ingress-changes';

const HOSTNAMES = 1_000;
const ENDPOINTS = 5;
const CHANGES = 10;
const NEW_HOSTNAMES = 5;
const NEW_CONFIGURATIONS = 3;
/** More than fit without a new configuration. */
const MANY_ENDPOINTS = 7;
const CONNECTIONS = 8;
/** Longer than the longest stride in which many documents are read. */
const CALM_MS = 1_000;

const where = `${HOSTNAMES} hostnames of ${ENDPOINTS} endpoints`;

/** Each endpoint has an address of its own, all of which are the same server's. */
const routesTo = (port: number): readonly ProxiedRoute[] =>
  Array.from({ length: HOSTNAMES }, (_, index) => ({
    hostname: `web${String(index).padStart(4, '0')}.localhost`,
    endpoints: Array.from(
      { length: ENDPOINTS },
      (__, endpoint) => `127.${1 + endpoint}.${index >> 8}.${index & 255}:${port}`,
    ),
  }));

export const ingressScaleCase = async (options: IngressCaseOptions): Promise<void> => {
  const { alone, measurements, rounds, say } = options;
  const backends = await startBackends(2, true);
  const routes = routesTo(backends.ports[0] ?? 0);
  const own = await startOwnIngress();
  const stops: (() => Promise<void>)[] = [() => own.stop(), () => backends.stop()];
  try {
    say(`all of them answer after ${(await timed(() => own.serve(routes))).toFixed(0)} ms`);
    const byHand = alone ? undefined : await startProxy('caddy', routes);
    if (byHand !== undefined) stops.unshift(byHand.stop);
    await own.settle();
    // As the Caddy by hand, it has had no other configuration before.
    await own.restart();
    const peers: Measurable[] = [
      ...(byHand === undefined
        ? []
        : [{ id: 'caddy' as const, port: byHand.port, running: () => byHand.running }]),
      { id: 'containeros', port: own.port, running: own.caddy },
    ];
    const loads = [routes[0], routes.at(-1)].map((route, index) => ({
      title: `${where}, the ${index === 0 ? 'first' : 'last'} one`,
      hostname: route?.hostname ?? '',
    }));
    await measureRequests({ peers, loads, rounds, measurements, say });
    for (const { id, running } of peers) {
      measurements.add(ingressMemoryMetric(`Caddy, ${where}`), id, running().rssBytes() / 1e6);
    }
    measurements.add(ingressMemoryMetric(`keeper, ${where}`), 'containeros', own.keeper().rssBytes() / 1e6);
    await changeEndpoints(own, backends, routes[HOSTNAMES / 2]?.hostname ?? '', options);
    await addHostnames(own, backends.ports[0] ?? 0, measurements, say);
  } finally {
    for (const stop of stops) await stop();
  }
};

const changeEndpoints = async (
  own: OwnIngress,
  backends: Backends,
  hostname: string,
  { measurements, say }: IngressCaseOptions,
): Promise<void> => {
  const load = startWrk({ url: `http://127.0.0.1:${own.port}/`, hostname, connections: CONNECTIONS });
  const endpoint = `127.0.0.1:${backends.ports[1] ?? 0}`;
  const log = backends.logs[1] ?? '';
  for (let change = 0; change < CHANGES; change += 1) {
    await calm();
    const before = own.keeper().cpuSeconds();
    const { firstMs, lastMs, confirmedMs } = await followReplica(own, {
      ...{ id: 'coming', hostname, endpoint, log },
    });
    const cpuMs = (own.keeper().cpuSeconds() - before) * 1_000;
    const metrics = [
      [followMetric(`${where}, a replica runs: its first request`, FOLLOW_LIMIT_MS), firstMs],
      [followMetric(`${where}, a replica stops: its last request`, FOLLOW_LIMIT_MS), lastMs],
      [followMetric(`${where}, it stops: the ingress has confirmed it`, FOLLOW_LIMIT_MS), confirmedMs],
      [followMetric(`${where}, both: CPU of the keeper`), cpuMs],
    ] as const;
    for (const [metric, ms] of metrics) measurements.add(metric, 'containeros', ms);
    say(
      `first ${firstMs.toFixed(0)} ms, last ${lastMs.toFixed(0)} ms, confirmed ${confirmedMs.toFixed(0)} ms, keeper ${cpuMs.toFixed(0)} ms of CPU`,
    );
  }
  const { requests } = await load.stop();
  say(`${requests} requests, none of which failed`);
};

/** Not a burst of changes, which is followed in strides. */
const calm = () => delay(CALM_MS);

/** First into spare places, then with new configurations. */
const addHostnames = async (
  own: OwnIngress,
  port: number,
  measurements: Measurements,
  say: (line: string) => void,
): Promise<void> => {
  const add = async (hostname: string, endpoints: number): Promise<number> => {
    const id = hostname.split('.')[0] ?? '';
    // Before the hostname: with fewer endpoints it would have a spare place first.
    await Promise.all(
      Array.from({ length: endpoints }, (_, index) =>
        own.publish(`${id}-${index}`, hostname, `127.100.0.${1 + index}:${port}`),
      ),
    );
    await calm();
    const isAnswered = until(`${hostname} answers`, () => answersAt(own.port, hostname), { pauseMs: 5 });
    return timed(() => Promise.all([own.claim(hostname), isAnswered]));
  };
  for (let index = 0; index < NEW_HOSTNAMES; index += 1) {
    const ms = await add(`new${index}.localhost`, 1);
    measurements.add(followMetric(`${where}, another hostname: its first answer`), 'containeros', ms);
    say(`another hostname: ${ms.toFixed(0)} ms`);
  }
  for (let index = 0; index < NEW_CONFIGURATIONS; index += 1) {
    const used = { caddy: own.caddy().cpuSeconds(), keeper: own.keeper().cpuSeconds(), loads: own.loads() };
    const ms = await add(`large${index}.localhost`, MANY_ENDPOINTS);
    await until('Caddy has a new configuration', async () => own.loads() > used.loads);
    const caddyMs = (own.caddy().cpuSeconds() - used.caddy) * 1_000;
    const keeperMs = (own.keeper().cpuSeconds() - used.keeper) * 1_000;
    const metrics = [
      [followMetric(`${where}, a new configuration: its first answer`), ms],
      [followMetric(`${where}, a new configuration: CPU of Caddy`), caddyMs],
      [followMetric(`${where}, a new configuration: CPU of the keeper`), keeperMs],
    ] as const;
    for (const [metric, value] of metrics) measurements.add(metric, 'containeros', value);
    say(
      `a new configuration: ${ms.toFixed(0)} ms, CPU of Caddy ${caddyMs.toFixed(0)} ms, of the keeper ${keeperMs.toFixed(0)} ms`,
    );
  }
};
