/** What Consul is told on a machine that is alone, on the server of a cluster and on its further nodes. */

import { consulSettings, type ConsulSettingsInput } from '../../../../workers/up/consul-settings';

const AGENT = {
  nodeId: 'one',
  dataDirectory: '/data/consul/data',
  ports: { http: 8500, server: 8300, serfLan: 8301, dns: 8600 },
};
const NETWORK = {
  address: '10.0.0.5',
  gossipKey: 'a2V5',
  gossip: 'lan',
  tls: { authorityFile: '/ca.pem', certificateFile: '/cert.pem', keyFile: '/key.pem' },
  agentToken: 'agent-token',
} as const;
const ALONE: ConsulSettingsInput = { kind: 'alone', ...AGENT };
const SERVER: ConsulSettingsInput = { kind: 'server', ...AGENT, ...NETWORK, managementToken: 'management' };
const CLIENT: ConsulSettingsInput = {
  kind: 'client',
  ...AGENT,
  ...NETWORK,
  serverAddress: '10.0.0.1:8301',
  defaultToken: 'default-token',
};

test('alone it has, to the byte, the settings that data directories were made with', () => {
  expect(JSON.stringify(consulSettings(ALONE))).toBe(
    '{"node_name":"one","datacenter":"dc1","server":true,"bootstrap_expect":1,"data_dir":"/data/consul/data",' +
      '"bind_addr":"127.0.0.1","client_addr":"127.0.0.1","ports":{"http":8500,"server":8300,"serf_lan":8301,' +
      '"serf_wan":-1,"dns":8600,"grpc":-1,"grpc_tls":-1},"ui_config":{"enabled":true},"connect":{"enabled":false},' +
      '"log_level":"WARN","log_json":true,"disable_update_check":true,"enable_local_script_checks":false,' +
      '"disable_remote_exec":true,"leave_on_terminate":false,"performance":{"raft_multiplier":1},' +
      '"retry_interval":"1s","limits":{"http_max_conns_per_client":4096,"kv_max_value_size":1048576,' +
      '"txn_max_req_len":4194304}}',
  );
});

test.each([SERVER, CLIENT])('a $kind is closed to whoever has no key, certificate and token', (input) => {
  expect(consulSettings(input)).toMatchObject({
    bind_addr: '10.0.0.5',
    advertise_addr: '10.0.0.5',
    client_addr: '127.0.0.1',
    encrypt: 'a2V5',
    tls: {
      internal_rpc: {
        ca_file: '/ca.pem',
        cert_file: '/cert.pem',
        key_file: '/key.pem',
        verify_incoming: true,
        verify_outgoing: true,
        verify_server_hostname: true,
      },
    },
    acl: { enabled: true, default_policy: 'deny', down_policy: 'extend-cache' },
    disable_remote_exec: true,
    enable_local_script_checks: false,
  });
});

test.each([SERVER, CLIENT])('a $kind that stops does not leave, and comes back', (input) => {
  expect(consulSettings(input)).toMatchObject({
    leave_on_terminate: false,
    skip_leave_on_interrupt: true,
    rejoin_after_leave: true,
    retry_interval: '1s',
    reconnect_timeout: '720h',
  });
});

test('the server elects itself and is the one that makes tokens', () => {
  expect(consulSettings(SERVER)).toMatchObject({
    server: true,
    bootstrap_expect: 1,
    ports: { server: 8300, serf_lan: 8301, serf_wan: -1 },
    acl: { tokens: { initial_management: 'management', agent: 'agent-token' } },
  });
});

test('a client joins the server, and knows no token that manages', () => {
  const settings = consulSettings(CLIENT);
  expect(settings).toMatchObject({ server: false, retry_join: ['10.0.0.1:8301'] });
  expect(settings).toHaveProperty('acl.tokens', { agent: 'agent-token', default: 'default-token' });
  for (const name of ['bootstrap_expect', 'performance', 'ports.server'])
    expect(settings).not.toHaveProperty(name);
});

test.each([
  ['lan', { probe_interval: '500ms', probe_timeout: '250ms', suspicion_mult: 3 }],
  ['wan', { probe_interval: '1s', probe_timeout: '500ms', suspicion_mult: 4 }],
] as const)('gossip in a %s', (gossip, expected) => {
  expect(consulSettings({ ...CLIENT, gossip })).toHaveProperty('gossip_lan', expected);
  expect(consulSettings({ ...SERVER, gossip })).toHaveProperty('gossip_lan', expected);
});
