/** What of routes with options gets into Caddy's configuration, and what must not. */

import { caddyConfig } from '../../../adapters/ingress/caddy-config';
import { arrange, type Layout, type WantedPlace } from '../../../domain/ingress/layout';

const settings = { directory: '/data/ingress', listen: ':80', port: 80 };

const configOf = (wanted: readonly WantedPlace[], more: object = {}): string =>
  JSON.stringify(caddyConfig({ ...settings, ...more }, arrange([], wanted).layout));

const plain = { hostname: 'plain.example.com', endpoints: 2 };

test('a plain hostname costs what it costs, whatever other routes have', () => {
  const alone = configOf([plain]);
  expect(configOf([plain], { trustedProxies: { addresses: [], proxyProtocol: false } })).toBe(alone);
  const routed = { hostname: 'example.com', endpoints: 2, options: { allow: ['10.0.0.0/8'] } };
  const more = JSON.parse(configOf([plain, routed])) as Record<string, never>;
  const routes = (more as unknown as { apps: { http: { servers: { http: { routes: unknown[] } } } } }).apps
    .http.servers.http.routes;
  const mine = routes.filter((route) => JSON.stringify(route).includes('plain.example.com'));
  expect(mine).toHaveLength(1);
  expect(JSON.stringify(mine)).not.toContain('subroute');
});

test('requests are counted where there is a limit only', () => {
  const routed = { hostname: 'example.com', endpoints: 2, options: { allow: ['10.0.0.0/8'] } };
  const questions = (wanted: readonly WantedPlace[]) => configOf(wanted).match(/limits\.sock/g) ?? [];
  expect(questions([plain, routed])).toHaveLength(0);
  const limited = { ...routed, options: { rateLimit: { requests: 5, perMs: 2_000 } } };
  expect(questions([plain, limited])).toHaveLength(1);
});

test('no text that a user has chosen freely is where Caddy would read placeholders in it', () => {
  const options = {
    path: '/x',
    errorPage: 'one {file./etc/shadow}',
    maintenance: { text: 'two {env.HOME}', retryAfterSeconds: 1, allow: [] },
  };
  const text = configOf([{ hostname: 'example.com', endpoints: 1, options }]);
  expect(text).not.toContain('shadow');
  expect(text).not.toContain('env.HOME');
  expect(text).toContain('{file./data/ingress/places/0/error-page}');
  expect(text).toContain('{file./data/ingress/places/0/maintenance-page}');
});

test('whatever the ingress says by itself ends its line', () => {
  const options = {
    errorPage: '<p>none</p>',
    allow: ['10.0.0.1'],
    basicAuth: { alice: 'hash' },
    maxBodyBytes: 1,
    rateLimit: { requests: 1, perMs: 1_000 },
  };
  const https = { listen: ':443', listenQuic: ':443', port: 443, door: { port: 1, password: 'p' } };
  const text = configOf([plain, { hostname: 'example.com', endpoints: 1, options }], { https });
  const bodies = [...text.matchAll(/"body":("(?:[^"\\]|\\.)*")/g)].map(
    ([, body = '""']) => JSON.parse(body) as string,
  );
  // Not what users have written, nor what one Caddy tells another at a handover.
  const own = bodies.filter((body) => !body.startsWith('{file.') && body !== 'none');
  expect(new Set(own).size).toBeGreaterThanOrEqual(10);
  for (const body of own) expect(body).toMatch(/[.]\n$/);
});

test('the PROXY protocol is taken from those that are named only, as blocks', () => {
  const trustedProxies = { addresses: ['10.0.0.1', '::1', '10.1.0.0/16'], proxyProtocol: true };
  const text = configOf([plain], { trustedProxies });
  expect(text).toContain('"allow":["10.0.0.1/32","::1/128","10.1.0.0/16"],"fallback_policy":"SKIP"');
  expect(text).toContain('"trusted_proxies_strict":1');
  expect(configOf([plain], { trustedProxies: { ...trustedProxies, proxyProtocol: false } })).not.toContain(
    'listener_wrappers',
  );
});

test("a place that has settled reads nothing but what has moved, and its slots are no other one's", () => {
  const layout = arrange([], [plain, { hostname: 'example.com', endpoints: 2 }]).layout.map((place, index) =>
    place.isFixed ? { ...place, settled: Array<string>(place.slots).fill(`10.0.0.${index}:80`) } : place,
  );
  const maps = [
    ...JSON.stringify(caddyConfig(settings, layout)).matchAll(
      /\{"handler":"map",[^[]*"destinations":\[.*?\]/g,
    ),
  ].map(([text]) => [...text.matchAll(/"\{containeros\.[^"]+"/g)].map(([name]) => name));
  expect(maps).toHaveLength(2);
  const [one = [], other = []] = maps;
  expect([one.length, other.length]).toEqual([12, 12]);
  expect(one.filter((name) => other.includes(name))).toEqual([]);
});

test('a place whose slots are more than have settled reads all of them', () => {
  const [place] = arrange([], [plain]).layout;
  const settled = ['10.0.0.1:80', '10.0.0.2:80'];
  const read = (layout: Layout) => JSON.stringify(caddyConfig(settings, layout));
  if (place === undefined) throw new Error('there is no place');
  expect(read([{ ...place, settled }])).toBe(read([place]));
});
