// A real Caddy with the configuration of the ingress, under the supervision and with the sockets that the product gives
// it, and hostnames that lead to one address each. No cluster is needed.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { createCaddyAdmin } from '../../adapters/ingress/caddy-admin';
import { adminSocket, caddyConfig } from '../../adapters/ingress/caddy-config';
import { openCertificateFiles } from '../../adapters/ingress/certificate-files';
import { otherFile } from '../../adapters/ingress/other-replica';
import { openPlaceFiles } from '../../adapters/ingress/place-files';
import type { Layout } from '../../domain/ingress/layout';
import { chooseOthers } from '../../domain/ingress/others';
import { parseConfig } from '../../workers/config';
import { caddySettings, writeDoor, type IngressConfig } from '../../workers/ingress-files';
import { caddyCommand } from '../../workers/up/engines';
import { openListeningSockets } from '../../workers/up/listening-sockets';
import { chooseDoorPort, ingressPortNeeds } from '../../workers/up/ports';
import { superviseProcess } from '../../workers/up/supervised-process';
import { httpRequest } from './http';
import { engineVariables } from './programs';
import { eventually } from './wait';

/** Waits until it listens. @returns the port */
export const listenOn = (server: Server, host = '127.0.0.1'): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, () => resolve((server.address() as AddressInfo).port));
  });

export const freePort = async (): Promise<number> => {
  const probe = createServer();
  const port = await listenOn(probe);
  await new Promise((resolve) => probe.close(resolve));
  return port;
};

/** As on a node that others reach: every address is listened on. */
export const ingressConfigWith = (
  dataDir: string,
  httpPort: number,
  flags: readonly string[] = [],
): IngressConfig => ({
  ...parseConfig(
    ['--data-dir', dataDir, '--advertise-address', '192.0.2.1', '--http-port', String(httpPort), ...flags],
    engineVariables(),
    true,
  ),
  httpPort,
});

/** A configuration with which a body has two seconds, not thirty. */
export const cuttingSlowBodiesSoon = (config: string): string => {
  const changed = config.replaceAll('"read_timeout":30000000000', '"read_timeout":2000000000');
  if (changed === config) throw new Error('the configuration has no such time');
  return changed;
};

export interface TestIngress {
  readonly httpPort: number;
  readonly httpsPort: number;
  /** @throws while Caddy is being started */
  pid(): number;
  /** Gives Caddy another configuration, which leads hostnames where they led. @param change made to it */
  reload(change?: (config: string) => string): Promise<void>;
  stop(): Promise<void>;
}

/**
 * @param routes hostnames, and the addresses that each leads to
 * @param certificates by hostname: chain and key
 */
export const startIngress = async (
  routes: Readonly<Record<string, string | readonly string[]>>,
  certificates: ReadonlyMap<string, string> = new Map(),
): Promise<TestIngress> => {
  const directory = mkdtempSync(join(tmpdir(), 'containeros-ingress-'));
  const httpsPort = await freePort();
  const config = ingressConfigWith(directory, await freePort(), ['--https-port', String(httpsPort)]);
  writeDoor(config, await chooseDoorPort());
  const settings = caddySettings(config);
  openCertificateFiles(settings.directory).writeCertificates('exact', certificates);
  const files = openPlaceFiles(settings.directory);
  let layout: Layout = Object.entries(routes).map(([hostname, to], number) => {
    const addresses = [to].flat();
    files.writeSlots(number, [...addresses, ...addresses]);
    chooseOthers(addresses, number, '').forEach((address, index) =>
      files.writePart(number, otherFile(index), address),
    );
    return { number, slots: 2 * addresses.length, isFixed: true, hostname };
  });
  files.writeLayout(layout);
  const sockets = await openListeningSockets(ingressPortNeeds(config));
  const { command, args, env, cwd } = caddyCommand(config);
  const caddy = superviseProcess(
    {
      role: 'caddy',
      command,
      args,
      env: { ...process.env, ...env },
      cwd,
      runDirectory: directory,
      ipc: false,
      sockets: sockets.fileDescriptors,
      onLine: () => undefined,
    },
    pino({ level: 'silent' }),
  );
  await eventually(
    async () => {
      const headers = { host: 'nobody.localhost' };
      expect((await httpRequest(`http://127.0.0.1:${config.httpPort}/`, { headers })).status).toBe(404);
    },
    { describe: 'Caddy answers' },
  );
  return {
    httpPort: config.httpPort,
    httpsPort,
    reload: async (change = (config) => config) => {
      layout = [...layout, { number: layout.length, slots: 2, isFixed: false }];
      await createCaddyAdmin(adminSocket(settings.directory)).load(
        change(JSON.stringify(caddyConfig(settings, layout))),
      );
    },
    pid: () => {
      const pid = caddy.pid();
      if (pid === undefined) throw new Error('Caddy does not run');
      return pid;
    },
    stop: async () => {
      await caddy.stop();
      sockets.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};
