/** Google Cloud DNS against a fake of its documented API, which checks the signature of the account. */

import { generateKeyPairSync, verify } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as readText } from 'node:stream/consumers';

import { createGoogleDns, readServiceAccount } from '../../../../adapters/dns/google';
import { IssueError } from '../../../../domain/certificates/acme-problem';

const ZONE = 'example.org';
const RECORD = `_acme-challenge.apps.${ZONE}`;
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const privatePem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

interface RecordSet {
  readonly name: string;
  readonly type: string;
  readonly ttl: number;
  readonly rrdatas: readonly string[];
}

let server: Server;
let base: string;
let sets: RecordSet[] = [];
let tokens = 0;
let conflicts = 0;
const strange: string[] = [];

const accountWith = (more: object = {}) =>
  JSON.stringify({
    type: 'service_account',
    project_id: 'my-project',
    private_key_id: 'key-1',
    private_key: privatePem,
    client_email: 'acme@my-project.iam.gserviceaccount.com',
    token_uri: `${base}/token`,
    ...more,
  });

const decoded = (part: string): unknown => JSON.parse(Buffer.from(part, 'base64url').toString());

/** @returns the status and the body */
const give = (method: string, url: URL, text: string, authorization: string): readonly [number, unknown] => {
  if (method === 'POST' && url.pathname === '/token') {
    const form = new URLSearchParams(text);
    expect(form.get('grant_type')).toBe('urn:ietf:params:oauth:grant-type:jwt-bearer');
    const [head = '', claims = '', signature = ''] = (form.get('assertion') ?? '').split('.');
    const isSigned = verify(
      'RSA-SHA256',
      Buffer.from(`${head}.${claims}`),
      publicKey,
      Buffer.from(signature, 'base64url'),
    );
    if (!isSigned) return [400, { error: 'invalid_grant', error_description: 'Invalid JWT Signature.' }];
    expect(decoded(head)).toEqual({ alg: 'RS256', typ: 'JWT', kid: 'key-1' });
    const now = Math.floor(Date.now() / 1_000);
    const { iat, exp, ...who } = decoded(claims) as { readonly iat: number; readonly exp: number };
    expect(who).toEqual({
      iss: 'acme@my-project.iam.gserviceaccount.com',
      scope: 'https://www.googleapis.com/auth/ndev.clouddns.readwrite',
      aud: `${base}/token`,
    });
    expect(Math.abs(now - iat)).toBeLessThan(30);
    expect(exp - iat).toBe(3_600);
    tokens += 1;
    return [200, { access_token: `token-${tokens}`, expires_in: 3_600, token_type: 'Bearer' }];
  }
  if (authorization !== `Bearer token-${tokens}`) return [401, { error: { message: 'no token' } }];
  const zones = '/dns/v1/projects/my-project/managedZones';
  if (method === 'GET' && url.pathname === zones) {
    const isOurs = url.searchParams.get('dnsName') === `${ZONE}.`;
    const zone = (name: string, visibility: string) => ({ name, dnsName: `${ZONE}.`, visibility });
    return [200, isOurs ? { managedZones: [zone('inner', 'private'), zone('outer', 'public')] } : {}];
  }
  if (method === 'GET' && url.pathname === `${zones}/outer/rrsets`) {
    expect(url.searchParams.get('type')).toBe('TXT');
    return [200, { rrsets: sets.filter(({ name }) => name === url.searchParams.get('name')) }];
  }
  if (method === 'POST' && url.pathname === `${zones}/outer/changes`) {
    if (conflicts > 0) {
      conflicts -= 1;
      // Somebody else adds one in between.
      sets = [{ name: `${RECORD}.`, type: 'TXT', ttl: 60, rrdatas: ['"of another"'] }];
      return [412, { error: { message: "Precondition not met for 'entity.change.deletions[0]'" } }];
    }
    const { deletions = [], additions = [] } = JSON.parse(text) as {
      readonly deletions?: readonly RecordSet[];
      readonly additions?: readonly RecordSet[];
    };
    for (const one of deletions) expect(sets).toContainEqual(one);
    sets = sets.filter((one) => !deletions.some(({ name }) => name === one.name));
    for (const one of additions) {
      if (sets.some(({ name }) => name === one.name)) return [409, { error: { message: 'already exists' } }];
      sets.push(one);
    }
    return [200, { status: 'pending' }];
  }
  throw new Error(`${method} ${url.pathname} is not faked`);
};

beforeAll(async () => {
  server = createServer((request, response) => {
    void readText(request).then((text) => {
      let answer: readonly [number, unknown];
      try {
        const url = new URL(request.url ?? '/', base);
        answer = give(request.method ?? '', url, text, request.headers.authorization ?? '');
      } catch (error) {
        strange.push((error as Error).message);
        answer = [500, {}];
      }
      response.writeHead(answer[0], { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer[1]));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
});
afterEach(() => {
  expect(strange).toEqual([]);
  sets = [];
});

const dnsWith = (more: object = {}) =>
  createGoogleDns(readServiceAccount(accountWith(more)), { endpoint: base });

const failureOf = async (body: Promise<unknown>): Promise<string> => {
  const error: unknown = await body.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof IssueError)) throw new Error('it did not fail', { cause: error });
  expect(error.failure.kind).toBe('dns_provider');
  expect(error.message).not.toContain('PRIVATE KEY');
  return error.message;
};

test('adds a record beside others, once, and removes this one, also twice, with one token', async () => {
  const dns = dnsWith();
  const before = tokens;
  const values = () => sets.flatMap(({ rrdatas }) => rrdatas);
  await dns.addTxt(RECORD, 'one');
  await dns.addTxt(RECORD, 'two');
  await dns.addTxt(RECORD, 'two');
  expect(sets).toEqual([{ name: `${RECORD}.`, type: 'TXT', ttl: 60, rrdatas: ['"one"', '"two"'] }]);
  await dns.removeTxt(RECORD, 'one');
  await dns.removeTxt(RECORD, 'one');
  expect(values()).toEqual(['"two"']);
  await dns.removeTxt(RECORD, 'two');
  expect(sets).toEqual([]);
  expect(tokens - before).toBe(1);
});

test('who changes the same name at the same moment loses nothing', async () => {
  conflicts = 2;
  await dnsWith().addTxt(RECORD, 'one');
  expect(sets.flatMap(({ rrdatas }) => rrdatas)).toEqual(['"of another"', '"one"']);
  conflicts = 99;
  expect(await failureOf(dnsWith().addTxt(RECORD, 'x'))).toContain('it answered 412');
  conflicts = 0;
});

test('knows which names it has, and says of others that it has not', async () => {
  expect(await dnsWith().handles(`_acme-challenge.a.b.${ZONE}`)).toBe(true);
  expect(await dnsWith().handles('_acme-challenge.example.net')).toBe(false);
  expect(await failureOf(dnsWith().addTxt('_acme-challenge.example.net', 'x'))).toContain(
    'Google Cloud DNS did not find the zone',
  );
});

test('says when the key is not known, or nobody answers', async () => {
  const private_key = stranger.export({ type: 'pkcs8', format: 'pem' }).toString();
  expect(await failureOf(dnsWith({ private_key }).handles(RECORD))).toMatch(
    /did not give out a token: it answered 400: .*Invalid JWT Signature/,
  );
  expect(await failureOf(dnsWith({ token_uri: 'http://127.0.0.1:1/' }).handles(RECORD))).toContain(
    '127.0.0.1:1 does not answer',
  );
});

test.each([
  ['{', 'is no JSON'],
  ['{"type":"authorized_user"}', 'look at project_id, private_key, client_email'],
  [
    JSON.stringify({ project_id: 'p', client_email: 'a', private_key: 'none' }),
    'has a private_key that cannot be read',
  ],
])('%s is no key of a service account', (json, why) => {
  expect(() => readServiceAccount(json)).toThrow(why);
});
