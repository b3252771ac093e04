// What requests cost through the ingress, beside other proxies that lead to the same servers.
import { startBackends, startProxy } from '../ingress/ingress-bed';
import { startOwnIngress } from '../ingress/own-ingress';
import { measureRequests, type Measurable, type RequestLoad } from '../ingress/requests';
import type { ProxyId } from '../measurements';
import { createTestAuthority } from '../../test/support/certificates';
import { SPARE_PLACES } from '../../domain/ingress/layout';
import type { IngressCaseOptions } from '../run-ingress';

const BACKENDS = 4;
const HOSTNAME = 'web.localhost';
/** In the last of the ingress's spare places; for others it is the second of two hostnames. */
const SPARE = 'spare.localhost';
/** By TLS; it is looked up, so it is one that every machine has. */
const TLS = 'localhost';
const PROXIES: readonly ProxyId[] = ['nginx', 'haproxy', 'caddy'];

const LOADS: readonly RequestLoad[] = [
  { title: 'small answers, kept connections', hostname: HOSTNAME },
  { title: 'small answers, each over a new connection', hostname: HOSTNAME, closes: true },
  { title: '64 kB, kept connections', hostname: HOSTNAME, path: '/large' },
];
const TLS_LOADS: readonly RequestLoad[] = [
  { title: 'HTTPS, small answers, kept connections', hostname: TLS, isTls: true },
  { title: 'HTTPS, 64 kB, kept connections', hostname: TLS, path: '/large', isTls: true },
];
const SPARE_LOAD: RequestLoad = { title: 'small answers, hostname in the last spare place', hostname: SPARE };

export const ingressRequestsCase = async ({
  rounds,
  alone,
  measurements,
  say,
}: IngressCaseOptions): Promise<void> => {
  const backends = await startBackends(BACKENDS);
  const endpoints = backends.ports.map((port) => `127.0.0.1:${port}`);
  const routes = [HOSTNAME, TLS, SPARE].map((hostname) => ({ hostname, endpoints }));
  const authority = createTestAuthority('benchmark');
  const certificate = authority.issue({
    ...{ commonName: TLS, organisation: 'benchmark', alternativeNames: [`DNS:${TLS}`] },
  });
  authority.dispose();
  const own = await startOwnIngress(new Map([[TLS, `${certificate.certificatePem}${certificate.keyPem}`]]));
  const stops: (() => Promise<void>)[] = [() => own.stop(), () => backends.stop()];
  try {
    await own.serve(routes.slice(0, 2));
    await own.settle();
    for (let place = 1; place < SPARE_PLACES; place += 1) await own.claim(`other${place}.localhost`);
    await own.serve(routes.slice(2));
    const peers: Measurable[] = [];
    for (const id of alone ? [] : PROXIES) {
      const { port, running, stop } = await startProxy(id, routes);
      stops.unshift(stop);
      peers.push({ id, port, running: () => running });
    }
    peers.push({ id: 'containeros', port: own.port, running: own.caddy });
    await measureRequests({ peers, loads: LOADS, rounds, measurements, say });
    const both = peers.filter(({ id }) => id === 'caddy' || id === 'containeros');
    await measureRequests({ peers: both, loads: [SPARE_LOAD], rounds, measurements, say });
    const byTls: Measurable[] = [];
    for (const id of alone ? [] : PROXIES) {
      const { port, running, stop } = await startProxy(id, routes.slice(1, 2), certificate);
      stops.unshift(stop);
      byTls.push({ id, port, running: () => running });
    }
    byTls.push({ id: 'containeros', port: own.httpsPort ?? 0, running: own.caddy });
    await measureRequests({ peers: byTls, loads: TLS_LOADS, rounds, measurements, say });
  } finally {
    for (const stop of stops) await stop();
  }
};
