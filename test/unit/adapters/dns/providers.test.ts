/** Clients of DNS providers against fakes of their documented APIs, which throw at what they do not fake. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { createCloudflareDns } from '../../../../adapters/dns/cloudflare';
import { createDigitalOceanDns } from '../../../../adapters/dns/digitalocean';
import { createHetznerDns } from '../../../../adapters/dns/hetzner';
import { createRoute53Dns } from '../../../../adapters/dns/route53';
import type { DnsApiOptions } from '../../../../adapters/dns/dns-api';
import type { DnsProvider } from '../../../../contracts/acme';
import { IssueError } from '../../../../domain/certificates/acme-problem';

const TOKEN = 'secret-token';
const ZONE = 'example.org';

interface Answer {
  readonly status: number;
  readonly body?: unknown;
  readonly xml?: string;
}

interface Asked {
  readonly text: string;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly json: unknown;
}

/** Records by their full name, in a zone `example.org`. */
type Records = { name: string; value: string; id: number }[];
type Fake = (asked: Asked, records: Records) => Answer | undefined;

let nextId = 0;
const put = (records: Records, name: string, value: string) =>
  records.push({ name, value, id: (nextId += 1) });
const drop = (records: Records, isGone: (one: Records[number]) => boolean): number => {
  const before = records.length;
  records.splice(0, before, ...records.filter((one) => !isGone(one)));
  return before - records.length;
};
const full = (name: string) => (name === '@' ? ZONE : `${name}.${ZONE}`);

const cloudflare: Fake = ({ method, path, query, json }, records) => {
  if (method === 'GET' && path === '/zones') {
    const found = query.get('name') === ZONE ? [{ id: 'z1', name: ZONE }] : [];
    return { status: 200, body: { result: found } };
  }
  if (path === '/zones/z1/dns_records' && method === 'GET') {
    const result = records
      .filter(({ name }) => query.get('type') === 'TXT' && name === query.get('name'))
      .map(({ id, name, value }) => ({ id: `r${id}`, name, content: `"${value}"` }));
    return { status: 200, body: { result } };
  }
  if (path === '/zones/z1/dns_records' && method === 'POST') {
    const { type, name, content, ttl } = json as Readonly<Record<string, unknown>>;
    expect({ type, ttl }).toEqual({ type: 'TXT', ttl: 60 });
    put(records, String(name), String(content));
    return { status: 200, body: { result: {} } };
  }
  const [, id] = /^\/zones\/z1\/dns_records\/r(\d+)$/.exec(path) ?? [];
  if (id !== undefined && method === 'DELETE') {
    return { status: drop(records, (one) => one.id === Number(id)) === 0 ? 404 : 200, body: {} };
  }
  return undefined;
};

const digitalocean: Fake = ({ method, path, query, json }, records) => {
  const [, domain] = /^\/domains\/([^/]+)$/.exec(path) ?? [];
  if (domain !== undefined && method === 'GET') {
    return domain === ZONE ? { status: 200, body: { domain: { name: ZONE } } } : { status: 404, body: {} };
  }
  if (path === `/domains/${ZONE}/records` && method === 'GET') {
    const found = records
      .filter(({ name }) => query.get('type') === 'TXT' && name === query.get('name'))
      .map(({ id, value }) => ({ id, type: 'TXT', data: value }));
    return { status: 200, body: { domain_records: found } };
  }
  if (path === `/domains/${ZONE}/records` && method === 'POST') {
    const { type, name, data, ttl } = json as Readonly<Record<string, unknown>>;
    expect({ type, ttl }).toEqual({ type: 'TXT', ttl: 60 });
    put(records, full(String(name)), String(data));
    return { status: 201, body: { domain_record: {} } };
  }
  const [, id] = new RegExp(`^/domains/${ZONE}/records/(\\d+)$`).exec(path) ?? [];
  if (id !== undefined && method === 'DELETE') {
    return { status: drop(records, (one) => one.id === Number(id)) === 0 ? 404 : 204 };
  }
  return undefined;
};

const hetzner: Fake = ({ method, path, json }, records) => {
  const [, zone] = /^\/zones\/([^/]+)$/.exec(path) ?? [];
  if (zone !== undefined && method === 'GET') {
    return zone === ZONE ? { status: 200, body: { zone: { id: 1, name: ZONE } } } : { status: 404, body: {} };
  }
  const [, within, action] =
    new RegExp(`^/zones/${ZONE}/rrsets/([^/]+)/TXT(?:/actions/(add_records|remove_records))?$`).exec(path) ??
    [];
  if (within === undefined) return undefined;
  const name = full(within);
  const own = records.filter((one) => one.name === name);
  if (action === undefined && method === 'GET') {
    return own.length === 0
      ? { status: 404, body: {} }
      : { status: 200, body: { rrset: { records: own.map(({ value }) => ({ value: `"${value}"` })) } } };
  }
  const given = (json as { readonly records: readonly { readonly value: string }[] }).records.map(
    ({ value }) => value.replace(/^"(.*)"$/, '$1'),
  );
  if (action === 'add_records' && method === 'POST') {
    expect(json).toMatchObject({ ttl: 60 });
    for (const value of given) put(records, name, value);
    return { status: 201, body: { action: {} } };
  }
  if (action === 'remove_records' && method === 'POST') {
    for (const value of given) drop(records, (one) => one.name === name && one.value === value);
    return { status: 201, body: { action: {} } };
  }
  return undefined;
};

/** Sets of records in XML; texts are escaped in other ways than they were sent. */
const route53: Fake = ({ method, path, query, text }, records) => {
  if (method === 'GET' && path === '/2013-04-01/hostedzonesbyname') {
    const zone = (id: string, isPrivate: boolean) =>
      `<HostedZone><Id>/hostedzone/${id}</Id><Name>${ZONE}.</Name><Config><PrivateZone>${isPrivate}</PrivateZone></Config></HostedZone>`;
    // It begins at the name that is asked for, and goes on with others.
    const found =
      query.get('dnsname') === ZONE
        ? zone('Z0', true) + zone('Z1', false)
        : zone('Z1', false).replace(ZONE, `z.${ZONE}`);
    return { status: 200, xml: `<R><HostedZones>${found}</HostedZones></R>` };
  }
  if (method === 'GET' && path === '/2013-04-01/hostedzone/Z1/rrset') {
    expect(query.get('type')).toBe('TXT');
    const name = query.get('name') ?? '';
    const own = records.filter((one) => one.name === name);
    const values = own.map(
      ({ value }) => `<ResourceRecord><Value>&quot;${value}&quot;</Value></ResourceRecord>`,
    );
    const set = `<ResourceRecordSet><Name>${own.length === 0 ? `z.${ZONE}` : name}.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>${values.join('\n')}</ResourceRecords></ResourceRecordSet>`;
    return { status: 200, xml: `<R><ResourceRecordSets>${set}</ResourceRecordSets></R>` };
  }
  if (method !== 'POST' || path !== '/2013-04-01/hostedzone/Z1/rrset/') return undefined;
  const [, action, name = '', type, ttl, set = ''] =
    /<Action>(.*?)<\/Action><ResourceRecordSet><Name>(.*?)\.<\/Name><Type>(.*?)<\/Type><TTL>(.*?)<\/TTL>(.*)<\/ResourceRecordSet>/s.exec(
      text,
    ) ?? [];
  expect({ type, ttl }).toEqual({ type: 'TXT', ttl: '60' });
  const values = [...set.matchAll(/<Value>"(.*?)"<\/Value>/g)].map(([, value = '']) => value);
  const before = records.filter((one) => one.name === name).map(({ value }) => value);
  // What is deleted has to be named as it is.
  if (action === 'DELETE') expect(values).toEqual(before);
  drop(records, (one) => one.name === name);
  if (action === 'UPSERT') for (const value of values) put(records, name, value);
  return { status: 200, xml: '<R/>' };
};

const createRoute53 = ({ apiToken }: { readonly apiToken: string }, options: DnsApiOptions) =>
  createRoute53Dns({ accessKeyId: apiToken, secretAccessKey: `of ${apiToken}` }, options);

describe.each([
  ['Cloudflare', cloudflare, createCloudflareDns],
  ['DigitalOcean', digitalocean, createDigitalOceanDns],
  ['Hetzner', hetzner, createHetznerDns],
  ['Route 53', route53, createRoute53],
])('%s', (name, fake, create) => {
  const records: Records = [];
  const strange: string[] = [];
  let limited = false;
  let server: Server;
  let endpoint: string;
  let dns: DnsProvider;

  beforeAll(async () => {
    server = createServer((request, response) => {
      let text = '';
      request.on('data', (part: Buffer) => (text += part.toString()));
      request.on('end', () => {
        const url = new URL(request.url ?? '/', 'http://fake');
        const give = ({ status, body, xml }: Answer) => {
          response.writeHead(status);
          response.end(xml ?? (body === undefined ? '' : JSON.stringify(body)));
        };
        const { authorization = '' } = request.headers;
        const isKnown = [`Bearer ${TOKEN}`, `AWS4-HMAC-SHA256 Credential=${TOKEN}/`].some((known) =>
          authorization.startsWith(known),
        );
        if (!isKnown) {
          give({ status: 401, body: { error: 'invalid token' } });
          return;
        }
        if (limited) {
          give({ status: 429, body: { error: 'slow down' } });
          return;
        }
        const asked = {
          method: request.method ?? '',
          path: decodeURIComponent(url.pathname),
          query: url.searchParams,
          text,
          json: /^[{[]/.test(text) ? (JSON.parse(text) as unknown) : undefined,
        };
        try {
          const answer = fake(asked, records);
          if (answer === undefined) throw new Error(`${asked.method} ${asked.path} is not faked`);
          give(answer);
        } catch (error) {
          strange.push((error as Error).message);
          give({ status: 500, body: {} });
        }
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    dns = create({ apiToken: TOKEN }, { endpoint });
  });
  afterAll(() => {
    server.close();
    server.closeAllConnections();
  });
  afterEach(() => {
    expect(strange).toEqual([]);
    records.length = 0;
    limited = false;
  });

  const failureOf = async (body: Promise<unknown>) => {
    const error: unknown = await body.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof IssueError)) throw new Error('it did not fail', { cause: error });
    expect(error.failure.kind).toBe('dns_provider');
    expect(error.message).not.toContain(TOKEN);
    return error.message;
  };

  test('adds a record beside others, once, and removes this one, also twice', async () => {
    const record = `_acme-challenge.apps.${ZONE}`;
    await dns.addTxt(record, 'one');
    await dns.addTxt(record, 'two');
    await dns.addTxt(record, 'two');
    expect(records.map(({ name: of, value }) => [of, value])).toEqual([
      [record, 'one'],
      [record, 'two'],
    ]);
    await dns.removeTxt(record, 'one');
    await dns.removeTxt(record, 'one');
    expect(records.map(({ value }) => value)).toEqual(['two']);
    await dns.removeTxt(record, 'two');
    await dns.addTxt(`_acme-challenge.${ZONE}`, 'of the zone itself');
    expect(records.map(({ name: of }) => of)).toEqual([`_acme-challenge.${ZONE}`]);
  });

  test('knows which names it has, and says of others that it has not', async () => {
    expect(await dns.handles(`_acme-challenge.a.b.${ZONE}`)).toBe(true);
    expect(await dns.handles('_acme-challenge.example.net')).toBe(false);
    expect(await failureOf(dns.addTxt('_acme-challenge.example.net', 'x'))).toContain(
      `${name} did not find the zone of _acme-challenge.example.net`,
    );
  });

  test('says when the credentials are wrong, it is asked too often, or does not answer', async () => {
    const wrong = create({ apiToken: 'wrong' }, { endpoint });
    expect(await failureOf(wrong.handles(`a.${ZONE}`))).toMatch(
      /it answered 401: .*invalid token.*--dns-credentials-file/,
    );
    limited = true;
    expect(await failureOf(dns.addTxt(`_acme-challenge.${ZONE}`, 'x'))).toContain('it is tried again');
    const away = create({ apiToken: TOKEN }, { endpoint: 'http://127.0.0.1:1' });
    expect(await failureOf(away.handles(`a.${ZONE}`))).toContain('127.0.0.1:1 does not answer');
  });
});
