/** Whoever waits for a change hears of its success when every ingress goes by its routes. */

import { hostnameKvKey, routesKvKey } from '../../../contracts/kv';
import { eventually } from '../../support/wait';
import { buildRelease } from '../../support/builders';

import {
  buildMicroservice,
  buildOperation,
  microserviceDocuments,
  operationDocument,
  startApi,
  type ApiUnderTest,
} from './api-under-test';

const KEY = { project: 'default', name: 'web' };
const ID = 'deploy.default.web.aaaaaaaa';
const WAITING = `/v1/operations/${ID}?wait=20s`;

const released = (hostnames: readonly string[]) =>
  buildMicroservice('web', {
    release: buildRelease(1, {
      containers: {
        app: {
          image: 'nginx:1.27',
          ...(hostnames.length === 0 ? { ports: [80] } : { httpPorts: { '80': [...hostnames] } }),
        },
      },
    }),
  });

let api: ApiUnderTest;
let waited: string[] = [];
let confirm: (behind: readonly string[]) => void = () => undefined;

beforeEach(async () => {
  waited = [];
  const confirmedOf = (what: string) => (index: number, signal: AbortSignal) => {
    waited.push(`${what} ${index}`);
    return new Promise<readonly string[]>((resolve, reject) => {
      confirm = resolve;
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  };
  api = await startApi({
    confirmedRoutes: {
      hostnames: confirmedOf('hostnames'),
      publicPorts: confirmedOf('publicPorts'),
      routes: confirmedOf('routes'),
    },
  });
});

afterEach(() => api.close());

const publish = async (hostnames: readonly string[], end: 'succeeded' | 'failed'): Promise<void> => {
  api.kv.put(microserviceDocuments(released(hostnames)));
  await eventually(() => expect(api.readModel.microservices()).toHaveLength(1));
  api.kv.put(operationDocument(buildOperation(ID, { state: end, message: 'done' })));
};

test('a success is told when the hostnames are confirmed, and also when that does not come', async () => {
  api.kv.put({ [hostnameKvKey('other.example.com')]: { project: 'default', name: 'other' } });
  const claimed = api.kv.put({ [hostnameKvKey('web.example.com')]: KEY });
  api.kv.put({ [hostnameKvKey('later.example.com')]: { project: 'default', name: 'later' } });
  await publish(['web.example.com'], 'succeeded');
  let isAnswered = false;
  const answering = api.call('GET', WAITING).finally(() => (isAnswered = true));
  await eventually(() => expect(waited).toEqual([`hostnames ${claimed}`]));
  expect(isAnswered).toBe(false);
  confirm(['node-2']);
  expect((await answering).status).toBe(200);
  expect(api.logged.join('\n')).toContain('node-2');
});

test('public ports are confirmed by the forwarders, and no hostname by these', async () => {
  const hostname = api.kv.put({ [hostnameKvKey('web.example.com')]: KEY });
  const port = api.kv.put({ [hostnameKvKey('tcp:5432')]: KEY });
  await publish(['web.example.com'], 'succeeded');
  const answering = api.call('GET', `/v1/operations/${ID}?wait=300ms`);
  await eventually(() => expect(waited).toEqual([`hostnames ${hostname}`, `publicPorts ${port}`]));
  expect((await answering).status).toBe(200);
});

test('what its releases say of them is waited for, too', async () => {
  const claimed = api.kv.put({ [hostnameKvKey('web.example.com')]: KEY });
  const routed = api.kv.put({ [routesKvKey(KEY)]: { ...KEY, releases: [] } });
  await publish(['web.example.com'], 'succeeded');
  const answering = api.call('GET', `/v1/operations/${ID}?wait=300ms`);
  await eventually(() => expect(waited).toEqual([`hostnames ${claimed}`, `routes ${routed}`]));
  // Neither comes in the time that the client has.
  expect((await answering).status).toBe(200);
});

test('without hostnames nothing is waited for, nor when it failed', async () => {
  api.kv.put({ [hostnameKvKey('web.example.com')]: KEY });
  await publish([], 'succeeded');
  expect((await api.call('GET', WAITING)).status).toBe(200);
  await publish(['web.example.com'], 'failed');
  expect((await api.call('GET', WAITING)).status).toBe(500);
  expect(waited).toEqual([]);
});
