// What the ingress is measured on: servers on this machine's loopback that answer at once, and proxies before them.
// Invariant: all that was started ends with the benchmark.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Certificate } from '../../test/support/certificates';
import { freePorts } from '../../test/support/consul';
import { engineVariables } from '../../test/support/programs';
import { eventually } from '../../test/support/wait';
import type { ProxyId } from '../measurements';
import { answersAt, answersByTls } from './own-ingress';
import { startProgram, unpacked, versionOf, type Running } from './programs';
import {
  backendsConfig,
  caddyfile,
  haproxyConfig,
  nginxConfig,
  type CertificatePaths,
  type ProxiedRoute,
  type ProxySettings,
} from './proxies';

const LARGE_BYTES = 64 * 1024;

export interface Backends {
  /** Each has this port on every address of the loopback. */
  readonly ports: readonly number[];
  /** With the time of each answer of the server, a line each. */
  readonly logs: readonly string[];
  stop(): Promise<void>;
}

const newFolder = (): { readonly folder: string; readonly remove: () => void } => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-bench-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  return {
    folder,
    remove: () => {
      process.off('exit', remove);
      remove();
    },
  };
};

export const workerCount = (): number => availableParallelism();

/** @param isLogged whether each answer is noted, which costs a little */
export const startBackends = async (count: number, isLogged = false): Promise<Backends> => {
  const { folder, remove } = newFolder();
  const ports = await freePorts(count);
  const logs = isLogged ? ports.map((port) => join(folder, `${port}.log`)) : [];
  writeFileSync(join(folder, 'large'), Buffer.alloc(LARGE_BYTES, 'x'));
  const backends = ports.map((port, index) => {
    const log = logs[index];
    return { port, says: `${port}`, ...(log === undefined ? {} : { log }) };
  });
  const running = startNginx(folder, backendsConfig(folder, workerCount(), backends));
  await untilAnswers(ports.at(-1) ?? 0, 'backend');
  return {
    ports,
    logs,
    stop: async () => {
      await running.stop();
      remove();
    },
  };
};

const startNginx = (folder: string, config: string): Running => {
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, config);
  return startProgram(unpacked('nginx'), ['-p', folder, '-e', join(folder, 'nginx.log'), '-c', file]);
};

const untilAnswers = (port: number, hostname: string, isTls = false): Promise<void> =>
  eventually(
    async () => {
      const isThere = await (isTls ? answersByTls : answersAt)(port, hostname);
      if (!isThere) throw new Error('it does not answer');
    },
    { timeoutMs: 60_000, describe: `port ${port} answers for ${hostname}` },
  );

const caddyBinary = (): string => engineVariables()['CONTAINEROS_CADDY_BIN'] ?? 'caddy';

const STARTERS: Readonly<Record<ProxyId, (settings: ProxySettings) => Running>> = {
  nginx: (settings) => startNginx(settings.folder, nginxConfig(settings)),
  haproxy: (settings) => {
    const file = join(settings.folder, 'haproxy.cfg');
    writeFileSync(file, haproxyConfig(settings));
    return startProgram(unpacked('haproxy'), ['-db', '-f', file]);
  },
  caddy: (settings) => {
    const file = join(settings.folder, 'Caddyfile');
    writeFileSync(file, caddyfile(settings));
    const home = join(settings.folder, 'home');
    mkdirSync(home);
    return startProgram(caddyBinary(), ['run', '--config', file, '--adapter', 'caddyfile'], {
      ...{ HOME: home, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home },
      GOMAXPROCS: String(settings.workers),
    });
  },
};

export interface Proxy {
  readonly port: number;
  readonly running: Running;
  readonly stop: () => Promise<void>;
}

/** Where the proxies find it. */
const writeCertificate = (folder: string, { certificatePem, keyPem }: Certificate): CertificatePaths => {
  const paths = {
    chain: join(folder, 'chain.pem'),
    key: join(folder, 'key.pem'),
    both: join(folder, 'both.pem'),
  };
  writeFileSync(paths.chain, certificatePem);
  writeFileSync(paths.key, keyPem);
  writeFileSync(paths.both, `${certificatePem}${keyPem}`);
  return paths;
};

/** Until it answers for the first and the last hostname. @param certificate left out: it takes requests without TLS */
export const startProxy = async (
  id: ProxyId,
  routes: readonly ProxiedRoute[],
  certificate?: Certificate,
): Promise<Proxy> => {
  const { folder, remove } = newFolder();
  const [port = 0] = await freePorts(1);
  const tls = certificate === undefined ? {} : { certificate: writeCertificate(folder, certificate) };
  const running = STARTERS[id]({ port, routes, folder, workers: workerCount(), ...tls });
  const stop = async (): Promise<void> => {
    await running.stop();
    remove();
  };
  try {
    for (const { hostname } of [...routes.slice(0, 1), ...routes.slice(-1)])
      await untilAnswers(port, hostname, certificate !== undefined);
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, running, stop };
};

/** In one line. */
export const programVersions = async (): Promise<string> => {
  const [caddy, haproxy, nginx, wrk] = await Promise.all([
    versionOf(caddyBinary(), ['version'], /^v?(\d\S*)/m),
    versionOf(unpacked('haproxy'), ['-v'], /^HAProxy version (\S+)/m),
    versionOf(unpacked('nginx'), ['-v'], /nginx\/(\S+)/),
    versionOf(unpacked('wrk'), ['-v'], /^wrk (\S+)/m),
  ]);
  return `Caddy ${caddy}, HAProxy ${haproxy}, nginx ${nginx}, wrk ${wrk}`;
};
