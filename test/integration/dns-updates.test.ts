/** Dynamic updates (RFC 2136) of a real BIND: what it takes is there for everybody, and what it refuses is explained. */

import { createRfc2136Dns, type Rfc2136Credentials } from '../../adapters/dns/rfc2136';
import { startNameServer, type NameServer } from '../support/name-server';

const RECORD = '_acme-challenge.shop.example.org';
const OURS = { name: 'acme.example.org', secret: 'b3VycyBmb3IgdGVzdHM=' };
const THEIRS = { name: 'people.example.org', secret: 'dGhlaXJzIGZvciB0ZXN0cw==' };

let server: NameServer;

beforeAll(async () => {
  server = await startNameServer(
    [
      { name: 'example.org', changedBy: OURS },
      { name: 'deep.example.org', changedBy: OURS },
      { name: 'example.net', spelling: 'Example.NET', changedBy: OURS },
      { name: 'example.com', changedBy: THEIRS },
    ],
    { keys: [THEIRS] },
  );
});

afterAll(() => server?.close());

const dnsWith = (more: Partial<Rfc2136Credentials> = {}) =>
  createRfc2136Dns({
    nameserver: server.address,
    keyName: OURS.name,
    keySecret: OURS.secret,
    ...more,
  });

test('a value is added beside others, and taken back alone, each as often as one likes', async () => {
  const dns = dnsWith();
  for (const value of ['one', 'two', 'two']) await dns.addTxt(RECORD, value);
  expect(await server.txt(RECORD)).toEqual(['one', 'two']);
  for (let times = 0; times < 2; times += 1) await dns.removeTxt(RECORD, 'one');
  expect(await server.txt(RECORD)).toEqual(['two']);
  await dns.removeTxt(RECORD, 'two');
  expect(await server.txt(RECORD)).toEqual([]);
});

test.each([
  ['right below it', '_acme-challenge.example.org'],
  ['far below it', '_acme-challenge.a.b.c.example.org'],
  ['in one within another one', '_acme-challenge.shop.deep.example.org'],
  ['in one that is spelled with capitals', '_acme-challenge.shop.example.net'],
])('the zone is found for a name %s', async (_where, name) => {
  const dns = dnsWith();
  expect(await dns.handles(name)).toBe(true);
  await dns.addTxt(name, 'proof');
  expect(await server.txt(name)).toEqual(['proof']);
  await dns.removeTxt(name, 'proof');
  expect(await server.txt(name)).toEqual([]);
});

test('names of other zones are not handled', async () => {
  expect(await dnsWith().handles('_acme-challenge.shop.example.edu')).toBe(false);
});

test.each([
  ['a key of another secret', { keySecret: THEIRS.secret }, RECORD, /does not know this key/],
  ['a key of another name', { keyName: 'nobody.example.org' }, RECORD, /does not know this key/],
  ['a key that may not', {}, '_acme-challenge.shop.example.com', /it refuses\. Look whether the key may/],
])('%s changes nothing, and that is explained', async (_what, credentials, name, message) => {
  await expect(dnsWith(credentials).addTxt(name, 'proof')).rejects.toMatchObject({
    failure: { message: expect.stringMatching(message) as string },
  });
  expect(await server.txt(name)).toEqual([]);
});

test('clocks that are an hour apart are named', async () => {
  const nowMs = Date.now();
  const clock = jest.spyOn(Date, 'now').mockReturnValue(nowMs + 3_600_000);
  try {
    await expect(dnsWith().addTxt(RECORD, 'proof')).rejects.toThrow(
      'its clock and that of this machine are minutes apart',
    );
  } finally {
    clock.mockRestore();
  }
});
