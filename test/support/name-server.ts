// A real name server (BIND) that takes dynamic updates which are signed with its keys; on the loopback interface unless a
// test says otherwise.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Resolver } from 'node:dns/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { freePorts } from './consul';
import { findProgram } from './programs';
import { eventually } from './wait';

const LOOPBACK = '127.0.0.1';

export interface UpdateKey {
  readonly name: string;
  /** Base64. */
  readonly secret: string;
}

export interface NameServerZone {
  readonly name: string;
  /** As the server spells it in its answers; left out: as `name`. */
  readonly spelling?: string;
  /** Who may change its TXT records. */
  readonly changedBy: UpdateKey;
}

export interface NameServerOptions {
  /** Keys that it knows, beside those of the zones. */
  readonly keys?: readonly UpdateKey[];
  /** Where it listens. */
  readonly host?: string;
  /** Left out: a free one. */
  readonly port?: number;
}

export interface NameServer {
  /** Address and port. */
  readonly address: string;
  /** The values of a name, sorted. */
  txt(name: string): Promise<readonly string[]>;
  close(): Promise<void>;
}

const keyText = ({ name, secret }: UpdateKey): string =>
  `key "${name}" { algorithm hmac-sha256; secret "${secret}"; };`;

const zoneText = ({ name, changedBy }: NameServerZone): string =>
  `zone "${name}" { type primary; file "${name}.zone"; update-policy { grant ${changedBy.name} subdomain ${name} TXT; }; };`;

export const startNameServer = async (
  zones: readonly NameServerZone[],
  { keys = [], host = LOOPBACK, port: chosenPort }: NameServerOptions = {},
): Promise<NameServer> => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-dns-'));
  const [freePort = 0] = await freePorts(1);
  const port = chosenPort ?? freePort;
  const known = new Map([...zones.map(({ changedBy }) => changedBy), ...keys].map((key) => [key.name, key]));
  writeFileSync(
    join(folder, 'named.conf'),
    [
      `options { directory "${folder}"; listen-on port ${port} { ${host}; }; listen-on-v6 { none; }; pid-file none;`,
      'recursion no; dnssec-validation no; session-keyfile none; };',
      'controls {};',
      ...[...known.values()].map(keyText),
      ...zones.map(zoneText),
    ].join('\n'),
  );
  for (const { name, spelling = name } of zones) {
    const records = [`SOA ns.${spelling}. people.${spelling}. 1 3600 600 86400 60`, `NS ns.${spelling}.`].map(
      (record) => `${spelling}. 60 IN ${record}\n`,
    );
    writeFileSync(join(folder, `${name}.zone`), [...records, `ns.${spelling}. 60 IN A ${host}\n`].join(''));
  }
  const program = findProgram('named');
  const server = spawn(program, ['-g', '-n', '1', '-c', join(folder, 'named.conf')], {
    // Where set-up has put those of its libraries that this machine lacks.
    env: { PATH: process.env['PATH'] ?? '', LD_LIBRARY_PATH: dirname(program) },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  server.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  await eventually(() => expect(log).toMatch(/ running\n/), { describe: 'the name server runs' });

  const resolver = new Resolver();
  resolver.setServers([`${host}:${port}`]);
  return {
    address: `${host}:${port}`,
    txt: async (name) => {
      try {
        return (await resolver.resolveTxt(name)).map((parts) => parts.join('')).sort();
      } catch (error) {
        if (['ENOTFOUND', 'ENODATA'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
        throw error;
      }
    },
    close: async () => {
      if (server.exitCode === null && server.signalCode === null) {
        server.kill('SIGKILL');
        await once(server, 'exit');
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
};
