// The pinned engines: which version, where its official release is, what its SHA-256 must be, and how to build it
// from Go modules when the release cannot be had. docs/decisions/set-up-engines.md says how the pins were found.
// A release is one file per architecture; `needsBytes` is what unpacking it takes on the disk, archive included.

const MB = 1_000_000;

export const ENGINES = {
  temporal: {
    name: 'temporal',
    title: 'Temporal',
    version: '1.5.1',
    binVariable: 'CONTAINEROS_TEMPORAL_BIN',
    /** Reads `--version`. The server's version is what counts; the CLI's own is absent in some builds. */
    parseVersion: (text) => /\(Server (\d+\.\d+\.\d+)/.exec(text)?.[1],
    fits: { version: '1.29.1', name: 'server' },
    needsBytes: 400 * MB,
    releases: {
      amd64: {
        url: 'https://github.com/temporalio/cli/releases/download/v1.5.1/temporal_cli_1.5.1_linux_amd64.tar.gz',
        sha256: 'ddc95e08b0b076efd4ea9733a3f488eb7d2be875f8834e616cd2a37358b4852d',
      },
      arm64: {
        url: 'https://github.com/temporalio/cli/releases/download/v1.5.1/temporal_cli_1.5.1_linux_arm64.tar.gz',
        sha256: 'bd1b0db9f18b051026de8bf6cc1505f2510f14bbb7a8b9a4a91fff46c77454f5',
      },
    },
    go: {
      packagePath: 'github.com/temporalio/cli/cmd/temporal',
      flags: [
        '-mod=mod',
        '-trimpath',
        '-ldflags',
        '-s -w -X github.com/temporalio/cli/temporalcli.Version=1.5.1',
      ],
      modFile: ['require github.com/temporalio/cli v1.5.1'],
      needsBytes: 4_000 * MB,
    },
  },
  consul: {
    name: 'consul',
    title: 'Consul',
    version: '1.20.1',
    binVariable: 'CONTAINEROS_CONSUL_BIN',
    parseVersion: (text) => /Consul v(\d+\.\d+\.\d+)/.exec(text)?.[1],
    fits: { version: '1.20.1', name: 'Consul' },
    needsBytes: 300 * MB,
    releases: {
      amd64: {
        url: 'https://releases.hashicorp.com/consul/1.20.1/consul_1.20.1_linux_amd64.zip',
        sha256: 'd38e7571177909d437a9cbcc62fb65083bc567266b74a62d02c6abe783951648',
      },
      arm64: {
        url: 'https://releases.hashicorp.com/consul/1.20.1/consul_1.20.1_linux_arm64.zip',
        sha256: '03ad4cf513819413016a79154e74161bcfa3c9e1fbfcbdc9eca525b2123d4779',
      },
    },
    go: {
      packagePath: 'github.com/hashicorp/consul',
      flags: ['-mod=mod', '-trimpath', '-ldflags', '-s -w'],
      // Consul's own go.mod replaces and excludes modules, which Go honours only in the main module: they are said
      // again here.
      modFile: [
        'require (',
        '  github.com/hashicorp/consul v1.20.1',
        '  github.com/armon/go-metrics v0.4.1',
        ')',
        'exclude (',
        '  github.com/hashicorp/go-msgpack v1.1.5',
        '  github.com/hashicorp/go-msgpack v1.1.6',
        ')',
      ],
      needsBytes: 5_000 * MB,
    },
  },
  caddy: {
    name: 'caddy',
    title: 'Caddy',
    version: '2.11.9',
    binVariable: 'CONTAINEROS_CADDY_BIN',
    /** A program built by hand says `unknown` unless it was told, and is not used. */
    parseVersion: (text) => /^v?(\d+\.\d+\.\d+)(?=\s|$)/m.exec(text)?.[1],
    fits: { version: '2.11.9', name: 'Caddy' },
    needsBytes: 150 * MB,
    /** SHA-512, by the publisher: it was not known elsewhere when this version was chosen. */
    checksumList: 'https://github.com/caddyserver/caddy/releases/download/v2.11.9/caddy_2.11.9_checksums.txt',
    releases: {
      amd64: {
        url: 'https://github.com/caddyserver/caddy/releases/download/v2.11.9/caddy_2.11.9_linux_amd64.tar.gz',
      },
      arm64: {
        url: 'https://github.com/caddyserver/caddy/releases/download/v2.11.9/caddy_2.11.9_linux_arm64.tar.gz',
      },
    },
    go: {
      packagePath: 'github.com/caddyserver/caddy/v2/cmd/caddy',
      // The tags are the official release's: they leave out databases that Caddy's own certificate authority could use.
      flags: [
        '-mod=mod',
        '-trimpath',
        '-tags',
        'nobadger,nomysql,nopgx',
        '-ldflags',
        // Caddy reads its version from the list of modules that it was built with, where the main one is not.
        '-s -w -X github.com/caddyserver/caddy/v2.CustomVersion=v2.11.9',
      ],
      modFile: ['require github.com/caddyserver/caddy/v2 v2.11.9'],
      needsBytes: 2_000 * MB,
    },
  },
};

/** A version fits when its major and minor are the pinned ones and its patch is the pinned one or later. */
export function versionFits(engine, found) {
  const [major, minor, patch] = engine.fits.version.split('.').map(Number);
  const [foundMajor, foundMinor, foundPatch] = found.split('.').map(Number);
  return foundMajor === major && foundMinor === minor && foundPatch >= patch;
}

/** Go's and the releases' name of this machine's architecture; undefined when there is no release for it. */
export function releaseArchitecture(nodeArchitecture = process.arch) {
  return { x64: 'amd64', arm64: 'arm64' }[nodeArchitecture];
}
