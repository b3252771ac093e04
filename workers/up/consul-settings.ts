/**
 * The settings of the Consul agents that ContainerOS runs: the server of a machine that is alone, the server of a
 * cluster, and the client on every further node.
 *
 * Invariants: HTTP and DNS are on the loopback interface only; what leaves the machine is encrypted and mutually
 * authenticated; nothing is allowed without a token once there is a network; an agent that stops does not leave, as
 * leaving takes its services out of the catalogue. The settings hold secrets: their file is for its owner alone.
 */

import type { GossipTiming } from '../../domain/gossip-profile';

/**
 * How soon a silent node is held for failed. `lan` finds a cut link in about three seconds; `wan` has Consul's own
 * defaults, which bear with links that lose packets or stall.
 */
export const GOSSIP_PROFILE = {
  lan: { probe_interval: '500ms', probe_timeout: '250ms', suspicion_mult: 3 },
  wan: { probe_interval: '1s', probe_timeout: '500ms', suspicion_mult: 4 },
} as const satisfies Readonly<Record<GossipTiming, object>>;

export interface ConsulTlsFiles {
  /** The authority of the cluster, whose certificates and no others are believed. */
  readonly authorityFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

interface Agent {
  readonly nodeId: string;
  /** Where Consul keeps its state. */
  readonly dataDirectory: string;
  readonly ports: {
    readonly http: number;
    readonly server: number;
    readonly serfLan: number;
    readonly dns: number;
  };
}

interface NetworkedAgent extends Agent {
  /** What the agent listens on for others and is known under: an address of this machine, without a port. */
  readonly address: string;
  /**
   * Base64 of 32 bytes, the same on every node. Consul keeps the first one in its data directory and ignores another
   * one here from then on; keys are changed with its keyring.
   */
  readonly gossipKey: string;
  readonly gossip: GossipTiming;
  readonly tls: ConsulTlsFiles;
  /** What the agent registers its own node with. */
  readonly agentToken: string;
}

export type ConsulSettingsInput =
  | (Agent & { readonly kind: 'alone' })
  | (NetworkedAgent & { readonly kind: 'server'; readonly managementToken: string })
  | (NetworkedAgent & {
      readonly kind: 'client';
      /** Gossip address of the server, as host:port. */
      readonly serverAddress: string;
      /** What requests without a token of their own may do: whoever reaches the loopback interface has it. */
      readonly defaultToken: string;
    });

const LOOPBACK = '127.0.0.1';

/** Every reader is a blocking query from this machine. */
const LIMITS = { http_max_conns_per_client: 4096, kv_max_value_size: 1_048_576, txn_max_req_len: 4_194_304 };

/** What is the same for each agent. */
const QUIET = {
  connect: { enabled: false },
  log_level: 'WARN',
  log_json: true,
  disable_update_check: true,
  enable_local_script_checks: false,
  disable_remote_exec: true,
  leave_on_terminate: false,
};

const aloneSettings = ({ nodeId, dataDirectory, ports }: Agent) => ({
  node_name: nodeId,
  datacenter: 'dc1',
  server: true,
  bootstrap_expect: 1,
  data_dir: dataDirectory,
  bind_addr: LOOPBACK,
  client_addr: LOOPBACK,
  ports: {
    http: ports.http,
    server: ports.server,
    serf_lan: ports.serfLan,
    serf_wan: -1,
    dns: ports.dns,
    grpc: -1,
    grpc_tls: -1,
  },
  ui_config: { enabled: true },
  ...QUIET,
  // Elects itself within a second after a crash, rather than within ten.
  performance: { raft_multiplier: 1 },
  retry_interval: '1s',
  limits: LIMITS,
});

/** What a server and a client have beyond an agent that is alone. */
const networkSettings = ({ address, gossipKey, gossip, tls }: NetworkedAgent) => ({
  bind_addr: address,
  advertise_addr: address,
  encrypt: gossipKey,
  gossip_lan: GOSSIP_PROFILE[gossip],
  tls: {
    internal_rpc: {
      ca_file: tls.authorityFile,
      cert_file: tls.certificateFile,
      key_file: tls.keyFile,
      verify_incoming: true,
      verify_outgoing: true,
      // A node's certificate is no server's: a stolen node cannot pose as one.
      verify_server_hostname: true,
    },
  },
  // A restart is no leave, however it comes; and after a leave that somebody asked for, the next start joins again.
  skip_leave_on_interrupt: true,
  rejoin_after_leave: true,
  // Past this, agents that lost each other forget each other, and only a restart brings them together; Consul's own
  // 72 hours are over after a long weekend. Removing a node does not wait for it.
  reconnect_timeout: '720h',
});

const aclSettings = (tokens: Readonly<Record<string, string>>) => ({
  acl: {
    enabled: true,
    default_policy: 'deny',
    // With its server away, an agent goes on with what it last knew of a token: local services can still change.
    down_policy: 'extend-cache',
    tokens,
  },
});

/**
 * Consul's settings for one agent, as its JSON configuration file holds them.
 *
 * What a client relies on: with no server to be found at its start it asks again every second, for ever. When the
 * server was away, it is met again by the server's own list of members when that starts, or by the client within
 * half a minute.
 */
export const consulSettings = (input: ConsulSettingsInput) => {
  switch (input.kind) {
    case 'alone':
      return aloneSettings(input);
    case 'server':
      return {
        ...aloneSettings(input),
        ...networkSettings(input),
        ...aclSettings({ initial_management: input.managementToken, agent: input.agentToken }),
      };
    case 'client': {
      const { http, serfLan, dns } = input.ports;
      return {
        node_name: input.nodeId,
        datacenter: 'dc1',
        server: false,
        data_dir: input.dataDirectory,
        client_addr: LOOPBACK,
        ports: { http, serf_lan: serfLan, dns, grpc: -1, grpc_tls: -1 },
        ui_config: { enabled: false },
        ...QUIET,
        retry_join: [input.serverAddress],
        retry_interval: '1s',
        limits: LIMITS,
        ...networkSettings(input),
        ...aclSettings({ agent: input.agentToken, default: input.defaultToken }),
      };
    }
  }
};
