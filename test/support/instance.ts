// The whole product on a test machine, started as a user starts it: `containeros up --dev`, unless a test wants it
// otherwise.
// Invariants: nothing is shared with another instance; the way in is the machine's loopback, as `--dev` listens
// nowhere else.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DockerEngine } from './engine';
import { httpRequest, type HttpAnswer, type HttpOptions } from './http';
import { prepareProductProcess, type ProductProcess } from './product-process';

export { ROLES, type Role } from './product-process';

/** `dev`: `up --dev`, whose password is `dev`; `generated`: the one that the first start makes. */
export type InstancePassword =
  | { readonly kind: 'dev' }
  | { readonly kind: 'given'; readonly password: string }
  | { readonly kind: 'generated' };

export interface InstanceOptions {
  readonly engine: DockerEngine;
  /** Further flags of `up`. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Short for a given one; without it, `dev`. */
  readonly password?: string | InstancePassword;
  /** Several instances on one machine: each moves all its ports by this. */
  readonly portOffset?: number;
}

export interface RequestOptions extends HttpOptions {
  /** As JSON, unless it is text already. */
  readonly body?: unknown;
  /** Another password, or none. */
  readonly password?: string | null;
}

export interface Instance extends ProductProcess {
  readonly engine: DockerEngine;
  readonly apiPort: number;
  readonly consulPort: number;
  readonly temporalUiPort: number;
  /** Of the ingress. */
  readonly httpPort: number;
  readonly httpsPort: number;
  /** For a Temporal client in the test. */
  readonly temporalAddress: string;
  readonly password: string;
  /** Where a port that the product listens on or exposes is reached from the tests. */
  outside(address: string): string;
  api(method: string, path: string, options?: RequestOptions): Promise<HttpAnswer>;
  /** Consul's HTTP API, with every right. */
  askConsul(path: string, options?: HttpOptions & { readonly body?: string }): Promise<HttpAnswer>;
  /** The same: what it answers; throws unless the answer is good. */
  consul<T>(path: string): Promise<T>;
  /** The id in the label `containeros.cluster`. */
  clusterId(): string;
}

const PORTS = {
  api: 8000,
  cluster: 7443,
  temporal: 7233,
  temporalUi: 8233,
  consul: 8500,
  http: 80,
  https: 443,
};

export async function startInstance(options: InstanceOptions): Promise<Instance> {
  const { engine, portOffset = 0 } = options;
  const dataDir = join(engine.folder, `instance-${portOffset}`);
  const ports = {
    api: PORTS.api + portOffset,
    cluster: PORTS.cluster + portOffset,
    temporal: PORTS.temporal + portOffset,
    temporalUi: PORTS.temporalUi + portOffset,
    consul: PORTS.consul + portOffset,
    http: PORTS.http + portOffset,
    https: PORTS.https + portOffset,
  };
  const wanted = passwordOf(options);
  const command = [
    'up',
    ...passwordFlags(wanted),
    ...['--data-dir', dataDir],
    ...['--api-port', String(ports.api)],
    ...['--cluster-port', String(ports.cluster)],
    ...['--temporal-port', String(ports.temporal)],
    ...['--temporal-ui-port', String(ports.temporalUi)],
    ...['--consul-port', String(ports.consul)],
    ...['--http-port', String(ports.http)],
    ...['--https-port', String(ports.https)],
    ...(options.flags ?? []),
  ];

  const password = (): string => {
    switch (wanted.kind) {
      case 'dev':
        return 'dev';
      case 'given':
        return wanted.password;
      case 'generated':
        return readFileSync(join(dataDir, 'password'), 'utf8').trim();
    }
  };

  const api: Instance['api'] = async (method, path, { body, password: given, ...rest } = {}) =>
    httpRequest(`http://${engine.loopbackAddress}:${ports.api}${path}`, {
      ...rest,
      method,
      headers: {
        host: `127.0.0.1:${ports.api}`,
        ...(given === null ? {} : { authorization: `Bearer ${given ?? password()}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...rest.headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });

  const askConsul: Instance['askConsul'] = (path, options = {}) =>
    httpRequest(`http://${engine.loopbackAddress}:${ports.consul}${path}`, {
      ...options,
      headers: { ...consulTokenHeader(dataDir), ...options.headers },
    });

  const product = await prepareProductProcess({
    machine: engine,
    dataDir,
    command: () => command,
    ...(options.env === undefined ? {} : { env: options.env }),
    assertReady: async () => {
      const answer = await api('GET', '/readyz', { timeoutMs: 2_000, password: null });
      if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
    },
  });

  const instance: Instance = {
    ...product,
    get startedInMs() {
      return product.startedInMs;
    },
    engine,
    apiPort: ports.api,
    consulPort: ports.consul,
    temporalUiPort: ports.temporalUi,
    httpPort: ports.http,
    httpsPort: ports.https,
    temporalAddress: `${engine.loopbackAddress}:${ports.temporal}`,
    get password() {
      return password();
    },
    outside: (address) =>
      address.replace(/^(127\.0\.0\.1|localhost|0\.0\.0\.0)(?=:|$)/, engine.loopbackAddress),
    api,
    askConsul,
    consul: async <T>(path: string) => {
      const answer = await askConsul(path);
      if (answer.status !== 200) throw new Error(`Consul: ${answer.status} ${answer.text}`);
      return answer.body as T;
    },
    clusterId: () => readFileSync(join(dataDir, 'cluster-id'), 'utf8').trim(),
  };
  try {
    await instance.start();
  } catch (error) {
    await instance.killAll();
    throw error;
  }
  return instance;
}

const passwordOf = ({ password }: InstanceOptions): InstancePassword => {
  if (password === undefined) return { kind: 'dev' };
  return typeof password === 'string' ? { kind: 'given', password } : password;
};

const passwordFlags = (wanted: InstancePassword): readonly string[] => {
  switch (wanted.kind) {
    case 'dev':
      return ['--dev'];
    case 'given':
      return ['--password', wanted.password];
    case 'generated':
      return [];
  }
};

/** Only a Consul that other machines may join wants tokens. */
const consulTokenHeader = (dataDir: string): Record<string, string> => {
  const file = join(dataDir, 'cluster', 'consul-management-token');
  return existsSync(file) ? { 'x-consul-token': readFileSync(file, 'utf8').trim() } : {};
};
