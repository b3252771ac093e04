// That other proxies get the same job: each hostname, each of its endpoints, by least connections.
import { caddyfile, haproxyConfig, nginxConfig } from '../../../bench/ingress/proxies';

const settings = {
  port: 8_080,
  workers: 2,
  folder: '/tmp/proxy',
  routes: [
    { hostname: 'one.localhost', endpoints: ['127.0.0.1:1', '127.0.0.1:2'] },
    { hostname: 'two.localhost', endpoints: ['127.0.0.1:3'] },
  ],
};

test.each([
  ['Caddy', caddyfile, 'least_conn'],
  ['HAProxy', haproxyConfig, 'leastconn'],
  ['nginx', nginxConfig, 'least_conn'],
])('%s has every hostname and endpoint', (_, configOf, policy) => {
  const config = configOf(settings);
  for (const { hostname, endpoints } of settings.routes) {
    for (const expected of [hostname, ...endpoints]) expect(config).toContain(expected);
  }
  expect(config.split(policy)).toHaveLength(settings.routes.length + 1);
  expect(config).toMatch(/\b8080\b/);
});

test('HAProxy and nginx are told the number of workers, and keep connections', () => {
  expect(haproxyConfig(settings)).toContain('nbthread 2');
  expect(nginxConfig(settings)).toContain('worker_processes 2');
  expect(nginxConfig(settings)).toContain('proxy_set_header Connection "";');
});

test('with a certificate all of them take requests by TLS', () => {
  const certificate = { chain: '/tmp/chain.pem', key: '/tmp/key.pem', both: '/tmp/both.pem' };
  expect(caddyfile({ ...settings, certificate })).toContain('https://one.localhost:8080 {');
  expect(caddyfile({ ...settings, certificate })).toContain('tls /tmp/chain.pem /tmp/key.pem');
  expect(haproxyConfig({ ...settings, certificate })).toContain(':8080 ssl crt /tmp/both.pem');
  expect(nginxConfig({ ...settings, certificate })).toContain('listen 127.0.0.1:8080 ssl;');
});
