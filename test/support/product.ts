// What e2e tests do with the product, as its users do: they write specifications, read the API, look into Consul
// and Docker, and ask the containers for a page.
import { connect } from 'node:net';
import type { ContainerInfo } from 'dockerode';
import { LABEL, SERVICE_META } from '../../contracts/docker';
import type { EventView, MicroserviceView, OperationView, ReplicaView } from '../../openapi/schemas';
import { startDockerEngine, type DockerEngine, type DockerEngineOptions } from './engine';
import { httpRequest, type HttpAnswer } from './http';
import { webImage } from './images';
import { startInstance, type Instance, type InstanceOptions } from './instance';
import { startRegistry, type Registry } from './registry';
import { eventually } from './wait';

export interface TestBed {
  readonly engine: DockerEngine;
  readonly registry: Registry;
  readonly instance: Instance;
  /** A reference to the web image with this tag, pushed to the registry. */
  readonly web: (tag?: string) => Promise<string>;
  dispose(): Promise<void>;
}

export async function startTestBed(
  options: {
    readonly engine?: DockerEngineOptions;
    readonly instance?: Omit<InstanceOptions, 'engine'>;
  } = {},
): Promise<TestBed> {
  const [engine, registry] = await Promise.all([startDockerEngine(options.engine), startRegistry()]);
  const pushed = new Map<string, Promise<string>>();
  const web = (tag = 'v1'): Promise<string> => {
    const known = pushed.get(tag) ?? webImage(tag).then((image) => registry.push(image));
    pushed.set(tag, known);
    return known;
  };
  try {
    const instance = await startInstance({ ...options.instance, engine });
    const dispose = async (): Promise<void> => {
      await instance.dispose().finally(() => Promise.all([engine.dispose(), registry.dispose()]));
    };
    return { engine, registry, instance, web, dispose };
  } catch (error) {
    await Promise.all([engine.dispose(), registry.dispose()]);
    throw error;
  }
}

/** A test whose failure shows what the product wrote lately. */
export function scenario(
  name: string,
  bed: () => TestBed | undefined,
  steps: (bed: TestBed) => Promise<void>,
  timeoutMs = 120_000,
): void {
  test(
    name,
    async () => {
      const running = bed();
      if (running === undefined) throw new Error('the test bed did not start');
      const before = running.instance.log().length;
      try {
        await steps(running);
      } catch (error) {
        const log = running.instance.log().slice(before).split('\n').slice(-LOG_LINES_SHOWN);
        const shown = log.map((line) => line.slice(0, LOG_LINE_CHARACTERS)).join('\n');
        const state = await describeState(running).catch(
          (reason: unknown) => `not to be had: ${String(reason)}`,
        );
        (error as Error).message += `\n--- state ---\n${state}\n--- ContainerOS wrote ---\n${shown}`;
        throw error;
      }
    },
    timeoutMs,
  );
}

/** What a person would look at first when something is not as expected. */
async function describeState(bed: TestBed): Promise<string> {
  const { instance, engine } = bed;
  const [wanted, observed, { items: operations }, containers, services] = await Promise.all([
    microservices(instance),
    replicas(instance),
    read<{ items: OperationView[] }>(instance, '/v1/operations?limit=4'),
    engine.docker.listContainers({ all: true }),
    registeredIds(instance),
  ]);
  return [
    ...wanted.map((each) => `${each.name} v${each.release} x${each.scale} ${each.state}: ${each.message}`),
    ...observed.map(({ id, release, state, reason }) => `replica ${id} v${release} ${state} ${reason ?? ''}`),
    ...operations.map(({ id, state, message, plan }) => `${id} ${state} ${message} [${plan.join('; ')}]`),
    ...containers.map(({ Names, State, Status }) => `Docker: ${Names.join()} ${State} (${Status})`),
    `Consul: ${services.join(' ')}`,
  ].join('\n');
}

const LOG_LINES_SHOWN = 25;
const LOG_LINE_CHARACTERS = 300;
const CHANGE_TIMEOUT_MS = 90_000;

/** A specification of one container that serves port 80. */
export function webSpec(
  name: string,
  image: string,
  more: { readonly scale?: number; readonly env?: readonly string[]; readonly [key: string]: unknown } = {},
): Record<string, unknown> {
  const { scale, env, container, ...rest } = more;
  return {
    name,
    ...(scale === undefined ? {} : { scale }),
    containers: {
      main: {
        image,
        ports: [80],
        ...(env === undefined ? {} : { env }),
        ...(container as object | undefined),
      },
    },
    ...rest,
  };
}

/** Asks for a change and returns its operation; by default when the operation has ended well. */
export async function change(
  instance: Instance,
  method: string,
  path: string,
  body?: unknown,
  wait: string | undefined = '60s',
): Promise<OperationView> {
  const query = wait === undefined ? '' : `?wait=${wait}`;
  const answer = await instance.api(method, `${path}${query}`, { body, timeoutMs: CHANGE_TIMEOUT_MS });
  if (answer.status !== 200 && answer.status !== 202) {
    throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  }
  if (wait !== undefined && answer.status !== 200) throw new Error(`it has not ended: ${answer.text}`);
  return answer.body as OperationView;
}

export const apply = (instance: Instance, spec: object, wait?: string): Promise<OperationView> =>
  change(instance, 'POST', '/v1/microservices', spec, wait);

/** Applies without waiting for the end. */
export const applyAsync = async (instance: Instance, spec: object): Promise<OperationView> => {
  const answer = await instance.api('POST', '/v1/microservices', { body: spec });
  if (answer.status !== 202) throw new Error(`${answer.status} ${answer.text}`);
  return answer.body as OperationView;
};

/** For afterEach: a test that failed in its middle must not fail those after it. */
export async function removeAllBut(instance: Instance, ...kept: readonly string[]): Promise<void> {
  const left = (await microservices(instance)).map(({ name }) => name).filter((name) => !kept.includes(name));
  await Promise.all(left.map((name) => removeMicroservice(instance, name)));
}

export const removeMicroservice = (instance: Instance, name: string): Promise<OperationView> =>
  change(instance, 'DELETE', `/v1/microservices/${name}`);

/** A GET that must be answered with 200. */
export async function read<T>(instance: Instance, path: string): Promise<T> {
  const answer = await instance.api('GET', path);
  if (answer.status !== 200) throw new Error(`GET ${path}: ${answer.status} ${answer.text}`);
  return answer.body as T;
}

export const microservice = (instance: Instance, name: string): Promise<MicroserviceView> =>
  read(instance, `/v1/microservices/${name}`);

export const microservices = async (instance: Instance): Promise<readonly MicroserviceView[]> =>
  (await read<{ items: MicroserviceView[] }>(instance, '/v1/microservices')).items;

export const replicas = async (instance: Instance, name?: string): Promise<readonly ReplicaView[]> =>
  (
    await read<{ items: ReplicaView[] }>(
      instance,
      name === undefined ? '/v1/replicas' : `/v1/microservices/${name}/replicas`,
    )
  ).items;

export const events = async (instance: Instance, query = ''): Promise<readonly EventView[]> =>
  (await read<{ items: EventView[] }>(instance, `/v1/events?${query}`)).items;

/** Waits for the end of an operation, however it ends. */
export const ended = (instance: Instance, id: string, timeoutMs = 60_000): Promise<OperationView> =>
  eventually(
    async () => {
      const operation = await read<OperationView>(instance, `/v1/operations/${id}`);
      if (!operation.final) throw new Error(JSON.stringify(operation));
      return operation;
    },
    { timeoutMs, describe: `operation ${id} ends` },
  );

/** The containers of a microservice that users wrote, running or not; not those that only hold a network. */
export async function containersOf(bed: TestBed, name: string): Promise<readonly ContainerInfo[]> {
  const label = [`${LABEL.cluster}=${bed.instance.clusterId()}`, `${LABEL.microservice}=${name}`];
  const all = await bed.engine.docker.listContainers({ all: true, filters: JSON.stringify({ label }) });
  return all.filter((each) => each.Labels[LABEL.role] !== 'sandbox');
}

interface HealthEntry {
  readonly Service: {
    readonly ID: string;
    readonly Address: string;
    readonly Port: number;
    readonly Tags: string[];
  };
}

/** Addresses that Consul gives to whoever asks for this service now. */
export async function endpoints(instance: Instance, service: string): Promise<readonly string[]> {
  const found = await instance.consul<HealthEntry[]>(`/v1/health/service/${service}?passing=1`);
  return found.map(({ Service }) => `${Service.Address}:${Service.Port}`).sort();
}

/** Every service instance that is a port of a replica, whatever its health. */
export async function registeredIds(instance: Instance): Promise<readonly string[]> {
  const services =
    await instance.consul<Record<string, { ID: string; Meta: Record<string, string> }>>('/v1/agent/services');
  return Object.values(services)
    .filter(({ Meta }) => Meta[SERVICE_META.replica] !== undefined)
    .map(({ ID }) => ID)
    .sort();
}

/** GETs a page from an endpoint: `200 web v1 <container>`. */
export async function page(instance: Instance, endpoint: string, path = '/'): Promise<string> {
  const answer: HttpAnswer = await httpRequest(`http://${instance.outside(endpoint)}${path}`, {
    timeoutMs: 3_000,
  });
  return `${answer.status} ${answer.text.trim()}`;
}

/** What every endpoint of a microservice answers. Throws unless all of them answer, and there are so many. */
export async function pages(instance: Instance, name: string, count: number): Promise<readonly string[]> {
  const found = await endpoints(instance, name);
  if (found.length !== count)
    throw new Error(`${found.length} endpoints rather than ${count}: ${found.join(' ')}`);
  return Promise.all(found.map((endpoint) => page(instance, endpoint)));
}

/** Waits until so many replicas of this version serve, each another container. */
export const serving = (
  instance: Instance,
  name: string,
  count: number,
  version: string,
  timeoutMs = 30_000,
): Promise<void> =>
  eventually(
    async () => {
      const answers = await pages(instance, name, count);
      for (const answer of answers) {
        if (!answer.startsWith(`200 ${version}`)) throw new Error(`not ${version}: ${answers.join(', ')}`);
      }
      if (new Set(answers).size !== count) throw new Error(`one container twice: ${answers.join(', ')}`);
    },
    { timeoutMs, describe: `${count} replicas of ${name} serve ${version}` },
  );

/** Whether something listens. */
export function connects(instance: Instance, endpoint: string): Promise<boolean> {
  const [host = '', port = ''] = instance.outside(endpoint).split(':');
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), timeout: 2_000 });
    const end = (is: boolean) => (): void => {
      socket.destroy();
      resolve(is);
    };
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false));
  });
}
