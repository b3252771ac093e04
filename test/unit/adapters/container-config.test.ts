import {
  containerConfig,
  sandboxConfig,
  type ContainerSettings,
} from '../../../adapters/docker/container-config';
import type { StartReplica } from '../../../contracts/activities';
import type { RawMicroserviceSpec } from '../../../domain/spec/schema';
import { buildRelease } from '../../support/builders';

const settings: ContainerSettings = {
  clusterId: 'c1u5te4-0000',
  nodeId: 'n1',
  advertiseAddress: '10.0.0.1',
  hostCpus: 2,
  architecture: 'amd64',
};
const replicaOf = (raw: Partial<RawMicroserviceSpec>): StartReplica => ({
  project: 'default',
  name: 'Web',
  replicaId: 'web-abc',
  release: buildRelease(3, raw),
  operation: 'deploy.default.web.1',
});
const configOf = (container: object, rest: object = {}, ports = new Map([['80/tcp', 20_001]])) => {
  const replica = replicaOf({ containers: { app: { image: 'nginx:1.27', ...container } }, ...rest });
  const [spec] = replica.release.spec.containers;
  if (spec === undefined) throw new Error('no container');
  return containerConfig(replica, spec, settings, ports, undefined);
};

test('everything that a specification says arrives at Docker', () => {
  const config = configOf({
    command: ['/bin/app'],
    args: ['--fast'],
    env: { A: 1, CONTAINEROS_NODE: 'mine' },
    ports: [80],
    cpus: 0.5,
    memLimit: 64_000_000,
    pidsLimit: 100,
    user: 'app:app',
    workingDirectory: '/srv',
    readOnly: true,
    dropCapabilities: ['ALL'],
    addCapabilities: ['NET_BIND_SERVICE'],
    labels: { team: 'a' },
    stopSignal: 'SIGQUIT',
    stopGraceSeconds: 7,
    volumes: [
      { name: 'data', path: '/data' },
      { tmpfs: true, path: '/tmp', sizeBytes: 8_192 },
      { hostPath: '/etc/hosts', path: '/hosts', readOnly: true },
    ],
  });
  expect(config).toMatchObject({
    name: 'web-abc-app',
    Image: 'nginx:1.27',
    Entrypoint: ['/bin/app'],
    Cmd: ['--fast'],
    User: 'app:app',
    WorkingDir: '/srv',
    StopSignal: 'SIGQUIT',
    StopTimeout: 7,
    Hostname: 'web-abc',
    ExposedPorts: { '80/tcp': {} },
    Labels: {
      team: 'a',
      'containeros.cluster': 'c1u5te4-0000',
      'containeros.replica': 'web-abc',
      'containeros.release': '3',
      'containeros.container': 'app',
      'containeros.role': 'container',
    },
    HostConfig: {
      NetworkMode: 'bridge',
      PortBindings: { '80/tcp': [{ HostIp: '10.0.0.1', HostPort: '20001' }] },
      NanoCpus: 500_000_000,
      Memory: 64_000_000,
      MemorySwap: 64_000_000,
      PidsLimit: 100,
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      CapAdd: ['NET_BIND_SERVICE'],
      Privileged: false,
      RestartPolicy: { Name: 'always' },
      LogConfig: { Config: { 'max-size': '10m', 'max-file': '3' } },
      Mounts: [
        { Type: 'volume', Source: 'c1u5te4-_default_web_data', Target: '/data', ReadOnly: false },
        { Type: 'bind', Source: '/etc/hosts', Target: '/hosts', ReadOnly: true },
        { Type: 'tmpfs', Target: '/tmp', TmpfsOptions: { SizeBytes: 8_192 } },
      ],
    },
  });
  expect(config.Env).toEqual([
    'A=1',
    'CONTAINEROS_NODE=mine', // the user's own variable wins
    'CONTAINEROS_MICROSERVICE=Web',
    'CONTAINEROS_REPLICA=web-abc',
    'CONTAINEROS_RELEASE=3',
  ]);
});

test('what is not said is left to the image and to Docker', () => {
  const config = configOf({});
  for (const key of ['Entrypoint', 'Cmd', 'User', 'WorkingDir', 'StopSignal']) {
    expect(config).not.toHaveProperty(key);
  }
  expect(config.HostConfig).not.toHaveProperty('PidsLimit');
});

test('a limit above what the machine has is what the machine has', () => {
  expect(configOf({ cpus: 64 }).HostConfig?.NanoCpus).toBe(2_000_000_000);
});

test.each(['always', 'on-failure', 'never'] as const)(
  'what is exclusive is never started by Docker, which knows nothing of leases: %s',
  (policy) => {
    const { HostConfig } = configOf({}, { exclusive: true, restart: { policy } });
    expect(HostConfig?.RestartPolicy).toEqual({ Name: 'no' });
  },
);

test.each([
  ['always', 'always'],
  ['on-failure', 'on-failure'],
  ['never', 'no'],
] as const)('restart policy %s', (policy, name) => {
  expect(configOf({}, { restart: { policy } }).HostConfig?.RestartPolicy).toEqual({ Name: name });
});

test('with the host network there are no ports to map', () => {
  const { HostConfig, ...config } = configOf({ ports: [80] }, { hostNetwork: true });
  expect(HostConfig?.NetworkMode).toBe('host');
  expect(HostConfig).not.toHaveProperty('PortBindings');
  expect(config).not.toHaveProperty('ExposedPorts');
});

test('a sandbox has the ports of all, and the others join it', () => {
  const replica = replicaOf({
    containers: { a: { image: 'a:1', ports: [80] }, b: { image: 'b:1', ports: ['53/udp'] } },
  });
  const ports = new Map([
    ['80/tcp', 20_001],
    ['53/udp', 20_002],
  ]);
  expect(sandboxConfig(replica, settings, ports)).toMatchObject({
    name: 'web-abc',
    Labels: { 'containeros.role': 'sandbox' },
    HostConfig: {
      CapDrop: ['ALL'],
      PortBindings: { '80/tcp': [{ HostPort: '20001' }], '53/udp': [{ HostPort: '20002' }] },
    },
  });
  const [first] = replica.release.spec.containers;
  if (first === undefined) throw new Error('no container');
  const joining = containerConfig(replica, first, settings, ports, 'abc');
  expect(joining.HostConfig).toMatchObject({ NetworkMode: 'container:abc' });
  expect(joining).not.toHaveProperty('Hostname');
  expect(joining).not.toHaveProperty('ExposedPorts');
});

test('the labels alone are enough to make the replica again', () => {
  const replica = replicaOf({});
  const [spec] = replica.release.spec.containers;
  if (spec === undefined) throw new Error('no container');
  const { Labels } = containerConfig(replica, spec, settings, new Map([['80/tcp', 1]]), undefined);
  expect(JSON.parse(Labels?.['containeros.replica-spec'] ?? '')).toEqual(replica);
});
