/**
 * Dynamic updates against a server of DNS in this process, which reads and checks signatures by itself, and messages as
 * another implementation has signed them.
 */

import { createHmac } from 'node:crypto';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { once } from 'node:events';

import { readReply, signMessage, txtUpdate } from '../../../../adapters/dns/dns-message';
import { createRfc2136Dns, whyNoRfc2136 } from '../../../../adapters/dns/rfc2136';
import { IssueError } from '../../../../domain/certificates/acme-problem';

const ZONE = 'example.org';
const RECORD = `_acme-challenge.shop.${ZONE}`;
const KEY = 'acme.example.org';
const SECRET = 'c2VjcmV0LW9mLXRoZS1rZXk=';

/** Made with the Go library of CoreDNS (miekg/dns 1.1.73): an update, and the answer to it a second later. */
const SIGNED_UPDATE =
  '126728000001000000010001076578616d706c65036f726700000600010f5f61636d652d6368616c6c656e67650473686f70076578616d706c65036f726700001000010000003c000c0b746f6b656e2d76616c75650461636d65076578616d706c65036f72670000fa00ff00000000003d0b686d61632d7368613235360000006553f100012c00208c2f972ada4ff372235d8528d28df5d174e7a75eee70ab9f6405e0ab956cb3ee126700000000';
const SIGNED_ANSWER =
  '1267a8000001000000000001076578616d706c65036f726700000600010461636d65076578616d706c65036f72670000fa00ff00000000003d0b686d61632d7368613235360000006553f101012c0020ed3221e7327272fb6102cdefd02732ec82feb3943669292b92b920536a10b254126700000000';
const SIGNED_AT = 1_700_000_000;

const key = { name: KEY, secret: Buffer.from(SECRET, 'base64') };

test('an update is signed, and its answer read, as another implementation does it', () => {
  const change = { kind: 'add', zone: ZONE, name: RECORD, value: 'token-value', ttlSeconds: 60 } as const;
  const { message, mac } = signMessage(txtUpdate(4711, change), key, SIGNED_AT);
  expect(message.toString('hex')).toBe(SIGNED_UPDATE);
  const read = (answer: string, nowSeconds: number, requestMac = mac) =>
    readReply(Buffer.from(answer, 'hex'), { key, requestMac, nowSeconds });
  expect(read(SIGNED_ANSWER, SIGNED_AT)).toEqual({
    id: 4711,
    rcode: 0,
    isAuthoritative: false,
    answers: [],
    tsigError: 0,
    isSigned: true,
  });
  // One bit, another request, or another time, and it is nobody's.
  expect(read(SIGNED_ANSWER.replace('1267a800', '1267a805'), SIGNED_AT).isSigned).toBe(false);
  expect(read(SIGNED_ANSWER, SIGNED_AT, Buffer.alloc(32)).isSigned).toBe(false);
  expect(read(SIGNED_ANSWER, SIGNED_AT + 302).isSigned).toBe(false);
  expect(() => read(SIGNED_ANSWER.slice(0, 80), SIGNED_AT)).toThrow(RangeError);
});

/** A name without compression. */
const nameAt = (bytes: Buffer, from: number): { readonly name: string; readonly end: number } => {
  const labels: string[] = [];
  let at = from;
  for (let length = bytes.readUInt8(at); length > 0; length = bytes.readUInt8(at)) {
    labels.push(bytes.toString('ascii', at + 1, at + 1 + length));
    at += length + 1;
  }
  return { name: labels.join('.'), end: at + 1 };
};

const wire = (name: string): Buffer =>
  Buffer.concat([
    ...name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0]),
  ]);

let server: Server;
let address: string;
let records: { name: string; ttl: number; value: string }[] = [];
/** What is done in place of answering as it should. */
let strange: 'silent' | 'unsigned' | 'refuses' | 'other id' | 'bad time' | undefined;

/** What follows the question of a signed request, checked: throws when anything is not as it should be. */
const checked = (request: Buffer) => {
  const zone = nameAt(request, 12);
  const afterZone = zone.end + 4;
  expect(request.readUInt16BE(10)).toBe(1);
  const isUpdate = (request.readUInt16BE(2) >> 11) % 16 === 5;
  let tsigAt = afterZone;
  let change: { name: string; isAdded: boolean; ttl: number; value: string } | undefined;
  if (isUpdate) {
    const { name, end } = nameAt(request, afterZone);
    expect(request.readUInt16BE(end)).toBe(16);
    tsigAt = end + 10 + request.readUInt16BE(end + 8);
    change = {
      name,
      isAdded: request.readUInt16BE(end + 2) === 1,
      ttl: request.readUInt32BE(end + 4),
      value: request.toString('ascii', end + 11, end + 11 + request.readUInt8(end + 10)),
    };
  }
  const { name: keyName, end: dataAt } = nameAt(request, tsigAt);
  const algorithm = nameAt(request, dataAt + 10);
  const mac = request.subarray(algorithm.end + 10, algorithm.end + 42);
  const unsigned = Buffer.concat([
    request.subarray(0, 10),
    Buffer.from([0, 0]),
    request.subarray(12, tsigAt),
  ]);
  const variables = Buffer.concat([
    ...[wire(keyName), Buffer.from([0, 255, 0, 0, 0, 0]), wire(algorithm.name)],
    ...[request.subarray(algorithm.end, algorithm.end + 8), Buffer.from([0, 0, 0, 0])],
  ]);
  const expected = createHmac('sha256', key.secret).update(unsigned).update(variables).digest();
  const isOurs = keyName === KEY && algorithm.name === 'hmac-sha256' && mac.equals(expected);
  return { zone: zone.name, question: request.subarray(12, afterZone), mac, change, isOurs };
};

const reply = (request: Buffer): Buffer | undefined => {
  if (strange === 'silent') return undefined;
  const { zone, question, mac, change, isOurs } = checked(request);
  const id = strange === 'other id' ? Buffer.from([1, 2]) : request.subarray(0, 2);
  const isZone = zone === ZONE;
  const rcode = !isOurs ? 9 : strange === 'refuses' && change !== undefined ? 5 : isZone ? 0 : 3;
  if (isOurs && rcode === 0 && change !== undefined) {
    const { isAdded, ...record } = change;
    records = records.filter(({ name, value }) => name !== record.name || value !== record.value);
    if (isAdded) records.push(record);
  }
  // SOA, at the name of the question.
  const soa = Buffer.concat([
    Buffer.from([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]),
    Buffer.alloc(20, 1),
  ]);
  const hasAnswer = rcode === 0 && change === undefined;
  const flags = Buffer.from([(request.readUInt8(2) & 0x78) | 0x84, rcode]);
  const counts = (additional: number) => Buffer.from([0, 1, 0, hasAnswer ? 1 : 0, 0, 0, 0, additional]);
  const body = Buffer.concat([question, ...(hasAnswer ? [soa] : [])]);
  if (strange === 'unsigned') return Buffer.concat([id, flags, counts(0), body]);
  const error = !isOurs ? 17 : strange === 'bad time' ? 18 : 0;
  const time = Buffer.alloc(6);
  time.writeUIntBE(Math.floor(Date.now() / 1_000), 0, 6);
  const signed = Buffer.concat([
    ...[Buffer.from([0, 32]), mac, id, flags, counts(0), body],
    ...[wire(KEY), Buffer.from([0, 255, 0, 0, 0, 0]), wire('hmac-sha256'), time],
    Buffer.from([1, 44, 0, error, 0, 0]),
  ]);
  const signature = createHmac('sha256', key.secret).update(signed).digest();
  const data = Buffer.concat([
    ...[wire('hmac-sha256'), time, Buffer.from([1, 44, 0, 32]), signature, id],
    Buffer.from([0, error, 0, 0]),
  ]);
  return Buffer.concat([
    ...[id, flags, counts(1), body, wire(KEY)],
    ...[Buffer.from([0, 250, 0, 255, 0, 0, 0, 0, 0, data.length]), data],
  ]);
};

beforeAll(async () => {
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    let all = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      all = Buffer.concat([all, chunk]);
      if (all.length < 2 || all.length < 2 + all.readUInt16BE(0)) return;
      const answer = reply(all.subarray(2));
      if (answer === undefined) {
        socket.destroy();
        return;
      }
      // In two pieces, as the network may have it.
      socket.write(Buffer.from([answer.length >> 8, answer.length & 255]));
      setImmediate(() => socket.write(answer));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => void server.close());
afterEach(() => {
  records = [];
  strange = undefined;
});

const dnsWith = (more: Partial<Parameters<typeof createRfc2136Dns>[0]> = {}) =>
  createRfc2136Dns({ nameserver: address, keyName: `${KEY}.`, keySecret: SECRET, ...more });

const failureOf = async (body: Promise<unknown>): Promise<string> => {
  const error: unknown = await body.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof IssueError)) throw new Error('it did not fail', { cause: error });
  expect(error.failure.kind).toBe('dns_provider');
  expect(error.message).not.toContain(SECRET);
  return error.message;
};

test('adds a record beside others, once, and removes this one, also twice', async () => {
  const dns = dnsWith();
  await dns.addTxt(RECORD, 'one');
  await dns.addTxt(RECORD, 'two');
  await dns.addTxt(RECORD, 'two');
  expect(records).toEqual([
    { name: RECORD, ttl: 60, value: 'one' },
    { name: RECORD, ttl: 60, value: 'two' },
  ]);
  await dns.removeTxt(RECORD, 'one');
  await dns.removeTxt(RECORD, 'one');
  expect(records.map(({ value }) => value)).toEqual(['two']);
});

test('knows which names it has, and says of others that it has not', async () => {
  expect(await dnsWith().handles(`_acme-challenge.a.b.${ZONE}`)).toBe(true);
  expect(await dnsWith().handles('_acme-challenge.example.net')).toBe(false);
  expect(await failureOf(dnsWith().addTxt('_acme-challenge.example.net', 'x'))).toMatch(
    /^the DNS server did not find the zone/,
  );
});

test('says what to do when the key is not that of the server, may not do it, or clocks differ', async () => {
  for (const wrong of [dnsWith({ keyName: 'other' }), dnsWith({ keySecret: 'b3RoZXI=' })])
    expect(await failureOf(wrong.addTxt(RECORD, 'x'))).toContain('RFC2136_TSIG_SECRET');
  strange = 'refuses';
  expect(await failureOf(dnsWith().addTxt(RECORD, 'x'))).toContain('update-policy');
  strange = 'bad time';
  expect(await failureOf(dnsWith().addTxt(RECORD, 'x'))).toContain('NTP');
  expect(records).toEqual([]);
});

test('believes nobody who does not sign the answer to this very request', async () => {
  for (const one of ['unsigned', 'other id'] as const) {
    strange = one;
    expect(await failureOf(dnsWith().handles(RECORD))).toContain('is not signed with the key');
  }
  strange = 'silent';
  expect(await failureOf(dnsWith().handles(RECORD))).toContain('does not answer as a DNS server');
  expect(await failureOf(dnsWith({ nameserver: '127.0.0.1:1' }).handles(RECORD))).toContain('is tried again');
});

test.each([
  ['ns1.example.com', SECRET, undefined],
  ['10.0.0.1:5353', SECRET, undefined],
  ['[2001:db8::1]:53', SECRET, undefined],
  ['2001:db8::1', SECRET, undefined],
  ['ns1.example.com:99999', SECRET, 'RFC2136_NAMESERVER'],
  ['https://ns1.example.com', SECRET, 'RFC2136_NAMESERVER'],
  ['ns1.example.com', 'not base64!', 'RFC2136_TSIG_SECRET'],
])('%s with the secret %s', (nameserver, keySecret, wrong) => {
  const why = whyNoRfc2136({ nameserver, keyName: KEY, keySecret });
  if (wrong === undefined) expect(why).toBeUndefined();
  else expect(why).toContain(wrong);
});
