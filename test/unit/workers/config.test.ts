import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ContainerOsError } from '../../../domain/errors';
import { consulOf } from '../../../workers/cluster/head-files';
import {
  clusterAddressOf,
  configHelp,
  consulAddressOf,
  consulPorts,
  isJoinable,
  parseConfig,
  temporalAddressOf,
} from '../../../workers/config';

const parse = (argv: readonly string[], environment: Record<string, string> = {}, isRoot = true) =>
  parseConfig(['--node-name', 'one', ...argv], environment, isRoot, () => undefined);

const problemsOf = (argv: readonly string[], environment: Record<string, string> = {}): string => {
  try {
    parse(argv, environment);
  } catch (error) {
    if (error instanceof ContainerOsError && error.code === 'invalid') return error.message;
    throw error;
  }
  throw new Error('the configuration was accepted');
};

describe('parseConfig', () => {
  test('has safe defaults', () => {
    expect(parse([])).toMatchObject({
      dev: false,
      dataDir: '/var/lib/containeros',
      apiHost: '127.0.0.1',
      apiPort: 8000,
      password: undefined,
      advertiseAddress: '127.0.0.1',
      dockerSocket: '/var/run/docker.sock',
      allowHostAccess: false,
      hostPorts: { first: 20000, last: 29999 },
      logFormat: 'json',
    });
  });

  test('goes by its private address, unless it is for this machine alone', () => {
    const found = (argv: readonly string[]) => parseConfig(argv, {}, true, () => '10.0.0.7');
    const networked = found([]);
    expect(networked.advertiseAddress).toBe('10.0.0.7');
    expect(isJoinable(networked)).toBe(true);
    expect(clusterAddressOf(networked)).toBe('10.0.0.7:7443');
    expect(clusterAddressOf(found(['--advertise-address', 'fd00::1', '--cluster-port', '9']))).toBe(
      '[fd00::1]:9',
    );
    const alone = [['--dev'], ['--advertise-address', '127.0.0.1'], ['--consul-address', 'http://c:8500']];
    for (const argv of alone) {
      expect(found(argv).advertiseAddress).toBe('127.0.0.1');
      expect(isJoinable(found(argv))).toBe(false);
    }
    expect(isJoinable(found(['--dev', '--advertise-address', '10.0.0.8']))).toBe(false);
  });

  test('keeps the data of people who are not root in their home', () => {
    expect(parse([], {}, false).dataDir).toMatch(/\/\.local\/share\/containeros$/);
  });

  test('prefers a flag over its variable, and the variable over the default', () => {
    const environment = { CONTAINEROS_API_PORT: '9001' };
    expect(parse([], environment).apiPort).toBe(9001);
    expect(parse(['--api-port', '9002'], environment).apiPort).toBe(9002);
  });

  test('measures the distances between nodes once a minute, unless a test says otherwise', () => {
    expect(parse([]).gossipEveryMs).toBe(60_000);
    expect(parse([], { CONTAINEROS_GOSSIP_EVERY_MS: '400' }).gossipEveryMs).toBe(400);
    for (const wrong of ['0', '99', '1.5', 'often'])
      expect(problemsOf([], { CONTAINEROS_GOSSIP_EVERY_MS: wrong })).toContain('CONTAINEROS_GOSSIP_EVERY_MS');
  });

  test('--dev sets the password and stays on this machine', () => {
    expect(parse(['--dev']).password).toBe('dev');
    expect(parse([], { CONTAINEROS_DEV: '1' }).password).toBe('dev');
    expect(parse([], { CONTAINEROS_DEV: '0' }).dev).toBe(false);
    expect(problemsOf(['--dev', '--api-host', '0.0.0.0'])).toContain('127.0.0.1 only');
    expect(problemsOf(['--dev', '--password', 'long enough'])).toContain(
      'leave --password and CONTAINEROS_PASSWORD',
    );
    expect(parse(['--dev'], { CONTAINEROS_PASSWORD: 'dev' }).password).toBe('dev');
    expect(problemsOf([], { CONTAINEROS_PASSWORD: 'dev' })).toContain(
      'CONTAINEROS_PASSWORD must have 8 characters',
    );
  });

  test('names every problem at once', () => {
    const message = problemsOf([
      '--api-port',
      '0',
      '--host-ports',
      '5-2',
      '--log-level',
      'loud',
      '--password',
      'short',
    ]);
    for (const flag of ['--api-port', '--host-ports', '--log-level', '--password'])
      expect(message).toContain(flag);
  });

  test.each([
    [['--api-port', '65536'], '--api-port'],
    [['--api-port', '80a'], '--api-port'],
    [['--temporal-address', 'http://x:1'], '--temporal-address'],
    [['--consul-address', 'localhost'], '--consul-address'],
    [['--consul-port', '100'], '--consul-port'],
    [['--node-name', 'Not a label'], '--node-name'],
    [['--node-label', 'ssd'], '--node-label must be KEY=VALUE like disk=ssd'],
    [['--node-label', '=ssd'], '--node-label must be KEY=VALUE'],
    [['--node-label', `a=${'x'.repeat(257)}`], '--node-label must be KEY=VALUE'],
    [['--node-label', 'a=1', '--node-label', 'a=2'], '--node-label sets a twice'],
    [['--node-label', 'ingress=no'], '--node-label ingress must be true or false, not "no"'],
    [['--trusted-proxies', '10.0.0.0/33'], '--trusted-proxies must be an address or a block'],
    [['--trusted-proxies', '10.0.0.1,lb.example.com'], 'not "lb.example.com"'],
    [['--proxy-protocol'], '--proxy-protocol needs --trusted-proxies'],
    [['--no-such-flag'], 'no-such-flag'],
    [['surplus'], 'surplus'],
  ])('refuses %j', (argv, named) => {
    expect(problemsOf(argv)).toContain(named);
  });

  test('refuses a Docker Engine elsewhere, and takes a socket elsewhere', () => {
    expect(problemsOf([], { DOCKER_HOST: 'tcp://10.0.0.1:2375' })).toContain('DOCKER_HOST');
    expect(parse([], { DOCKER_HOST: 'unix:///run/other.sock' }).dockerSocket).toBe('/run/other.sock');
  });

  test('takes allowed hosts repeated, with commas, or from the variable', () => {
    expect(parse(['--allowed-host', 'a', '--allowed-host', 'b, c']).allowedHosts).toEqual(['a', 'b', 'c']);
    expect(parse([], { CONTAINEROS_ALLOWED_HOST: 'd,e' }).allowedHosts).toEqual(['d', 'e']);
  });

  test('believes no proxies but those that are named', () => {
    expect(parse([]).trustedProxies).toEqual({ addresses: [], proxyProtocol: false });
    const named = ['--trusted-proxies', '10.0.0.1', '--trusted-proxies', '10.1.0.0/16, 2001:db8::/32'];
    expect(parse([...named, '--proxy-protocol']).trustedProxies).toEqual({
      addresses: ['10.0.0.1', '10.1.0.0/16', '2001:db8::/32'],
      proxyProtocol: true,
    });
    expect(parse([], { CONTAINEROS_TRUSTED_PROXIES: '::1' }).trustedProxies.addresses).toEqual(['::1']);
  });

  test('takes labels of the node repeated, with commas, or from the variable', () => {
    expect(parse([]).nodeLabels).toEqual({});
    expect(parse(['--node-label', 'disk=ssd', '--node-label', 'zone=eu, x=a=b, empty=']).nodeLabels).toEqual({
      disk: 'ssd',
      zone: 'eu',
      x: 'a=b',
      empty: '',
    });
    expect(parse([], { CONTAINEROS_NODE_LABELS: 'disk=ssd,zone=eu' }).nodeLabels).toEqual({
      disk: 'ssd',
      zone: 'eu',
    });
  });

  test('leaves hostnames to other nodes by a flag, or by a label that others see', () => {
    expect(parse([]).ingress).toBe(true);
    expect(parse(['--no-ingress']).ingress).toBe(false);
    expect(parse(['--node-label', 'ingress=false']).ingress).toBe(false);
    expect(parse(['--node-label', 'ingress=true']).ingress).toBe(true);
    expect(parse(['--node-label', 'ingress=true', '--no-ingress']).ingress).toBe(false);
  });

  test('keeps the distances between the ports of Consul', () => {
    expect(consulPorts(parse([]))).toEqual({ http: 8500, server: 8300, serfLan: 8301, dns: 8600 });
    const ports = Object.values(consulPorts(parse(['--consul-port', '18500'])));
    expect(new Set(ports).size).toBe(ports.length);
  });

  test('leads to external servers when they are given', () => {
    const config = parse(['--temporal-address', 'temporal:7233', '--consul-address', 'http://consul:8500']);
    expect(temporalAddressOf(config)).toBe('temporal:7233');
    expect(consulAddressOf(config)).toBe('http://consul:8500');
    expect(temporalAddressOf(parse(['--temporal-port', '7000']))).toBe('127.0.0.1:7000');
  });

  test('takes the token of Consul from a file or a variable, and from no flag', () => {
    const address = ['--consul-address', 'http://consul:8500'];
    const folder = mkdtempSync(join(tmpdir(), 'containeros-config-'));
    const file = join(folder, 'token');
    const empty = join(folder, 'empty');
    writeFileSync(file, 'from-file\n');
    writeFileSync(empty, '\n');
    try {
      expect(consulOf(parse(address))).toEqual({ address: 'http://consul:8500' });
      expect(consulOf(parse(address, { CONTAINEROS_CONSUL_TOKEN: 'secret' })).token).toBe('secret');
      expect(consulOf(parse([...address, '--consul-token-file', file])).token).toBe('from-file');
      expect(consulOf(parse(address, { CONTAINEROS_CONSUL_TOKEN_FILE: file })).token).toBe('from-file');
      expect(problemsOf([...address, '--consul-token', 'x'])).toContain("'--consul-token'");
      expect(problemsOf([...address, '--consul-token-file', empty])).toContain('is empty');
      expect(problemsOf([...address, '--consul-token-file', `${file}.not`])).toContain('cannot be read');
      expect(problemsOf(address, { CONTAINEROS_CONSUL_TOKEN: 'two words' })).toContain('one token');
      expect(problemsOf([], { CONTAINEROS_CONSUL_TOKEN: 'x' })).toContain('--consul-address');
      const both = problemsOf([...address, '--consul-token-file', file], { CONTAINEROS_CONSUL_TOKEN: 'x' });
      expect(both).toContain('leave one out');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('the help names every flag with its variable', () => {
    const help = configHelp();
    for (const flag of [
      'dev',
      'data-dir',
      'api-port',
      'allowed-host',
      'allow-host-access',
      'consul-address',
    ]) {
      expect(help).toContain(`--${flag}`);
      expect(help).toContain(`CONTAINEROS_${flag.toUpperCase().replaceAll('-', '_')}`);
    }
    expect(help).toContain('CONTAINEROS_NODE_LABELS');
    expect(help).toContain('CONTAINEROS_CONSUL_TOKEN ');
  });
});
