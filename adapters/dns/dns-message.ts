/**
 * Messages of DNS as far as dynamic updates need them (RFC 1035, RFC 2136), signed with a shared key (TSIG, RFC 8945).
 * Pure: the time and the ids are given.
 *
 * Invariants: what is read is believed only when it is signed with the same key, for the very request; a message that is
 * malformed is an error, never half an answer.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';

export const RECORD = { soa: 6, txt: 16, tsig: 250 } as const;
const CLASS = { in: 1, none: 254, any: 255 } as const;
export const RCODE = { none: 0, noName: 3, refused: 5, notAuthoritative: 9 } as const;
const AUTHORITATIVE = 0x0400;
const UPDATE = 5 << 11;
const HEADER_BYTES = 12;
/** How far clocks may be apart, in seconds; what the RFC recommends. */
const FUDGE_SECONDS = 300;
const ALGORITHM = 'hmac-sha256';
/** Errors of TSIG. */
export const TSIG_ERROR = { badSignature: 16, badKey: 17, badTime: 18 } as const;

export interface TsigKey {
  /** As the server has it, without the last dot. */
  readonly name: string;
  readonly secret: Buffer;
}

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const u48 = (value: number): Buffer => {
  const bytes = Buffer.alloc(6);
  bytes.writeUIntBE(value, 0, 6);
  return bytes;
};

/** @throws {RangeError} when a label is too long */
const nameBytes = (name: string): Buffer =>
  Buffer.concat([
    ...name
      .toLowerCase()
      .split('.')
      .filter((label) => label !== '')
      .map((label) => {
        const bytes = Buffer.from(label);
        if (bytes.length > 63) throw new RangeError(`"${label}" is too long for a name in DNS`);
        return Buffer.concat([Buffer.from([bytes.length]), bytes]);
      }),
    Buffer.from([0]),
  ]);

const header = (id: number, flags: number, counts: readonly [number, number, number, number]): Buffer =>
  Buffer.concat([u16(id), u16(flags), ...counts.map(u16)]);

const question = (name: string, type: number): Buffer =>
  Buffer.concat([nameBytes(name), u16(type), u16(CLASS.in)]);

/** Asks for the SOA record of a name, which a zone has at its top. */
export const soaQuery = (id: number, name: string): Buffer =>
  Buffer.concat([header(id, 0, [1, 0, 0, 0]), question(name, RECORD.soa)]);

export interface TxtChange {
  readonly kind: 'add' | 'remove';
  readonly zone: string;
  readonly name: string;
  readonly value: string;
  readonly ttlSeconds: number;
}

/** @throws {RangeError} when the value is longer than one text of a TXT record */
export const txtUpdate = (id: number, { kind, zone, name, value, ttlSeconds }: TxtChange): Buffer => {
  const text = Buffer.from(value);
  if (text.length > 255) throw new RangeError('a text of a TXT record has 255 bytes at most');
  const isAdded = kind === 'add';
  return Buffer.concat([
    header(id, UPDATE, [1, 0, 1, 0]),
    question(zone, RECORD.soa),
    nameBytes(name),
    u16(RECORD.txt),
    // Of class NONE it is taken away, and has no time (RFC 2136, 2.5.4).
    u16(isAdded ? CLASS.in : CLASS.none),
    u32(isAdded ? ttlSeconds : 0),
    u16(text.length + 1),
    Buffer.from([text.length]),
    text,
  ]);
};

interface Signed {
  readonly nowSeconds: number;
  readonly error?: number;
  readonly other?: Buffer;
  readonly fudge?: number;
}

const macOf = (
  key: TsigKey,
  message: Buffer,
  { nowSeconds, error = 0, other = Buffer.alloc(0), fudge = FUDGE_SECONDS }: Signed,
  requestMac?: Buffer,
): Buffer =>
  createHmac('sha256', key.secret)
    .update(requestMac === undefined ? Buffer.alloc(0) : Buffer.concat([u16(requestMac.length), requestMac]))
    .update(message)
    .update(
      Buffer.concat([
        ...[nameBytes(key.name), u16(CLASS.any), u32(0), nameBytes(ALGORITHM)],
        ...[u48(nowSeconds), u16(fudge), u16(error), u16(other.length), other],
      ]),
    )
    .digest();

const withAdditional = (message: Buffer, by: number): Buffer => {
  const changed = Buffer.from(message);
  changed.writeUInt16BE(changed.readUInt16BE(10) + by, 10);
  return changed;
};

/** @returns the message with its signature, and that by itself, which the answer is signed over */
export const signMessage = (
  message: Buffer,
  key: TsigKey,
  nowSeconds: number,
): { readonly message: Buffer; readonly mac: Buffer } => {
  const mac = macOf(key, message, { nowSeconds });
  const data = Buffer.concat([
    ...[nameBytes(ALGORITHM), u48(nowSeconds), u16(FUDGE_SECONDS), u16(mac.length), mac],
    ...[message.subarray(0, 2), u16(0), u16(0)],
  ]);
  return {
    mac,
    message: Buffer.concat([
      withAdditional(message, 1),
      ...[nameBytes(key.name), u16(RECORD.tsig), u16(CLASS.any), u32(0), u16(data.length), data],
    ]),
  };
};

interface ReadRecord {
  readonly at: number;
  readonly name: string;
  readonly type: number;
  readonly dataAt: number;
  readonly end: number;
}

export interface DnsReply {
  readonly id: number;
  readonly rcode: number;
  readonly isAuthoritative: boolean;
  /** Of its answer section. */
  readonly answers: readonly { readonly name: string; readonly type: number }[];
  /** What the server found wrong with the signature of the request; 0: nothing. */
  readonly tsigError: number;
  /** Whether it is signed with the key, for that request, and at about this time. */
  readonly isSigned: boolean;
}

/** @returns the name, in lower case, and where it ends */
const readName = (bytes: Buffer, from: number): readonly [name: string, end: number] => {
  const labels: string[] = [];
  let at = from;
  let end: number | undefined;
  for (let jumps = 0; ;) {
    const length = bytes.readUInt8(at);
    if (length >= 0xc0) {
      end ??= at + 2;
      at = bytes.readUInt16BE(at) & 0x3fff;
      if ((jumps += 1) > 20) throw new RangeError('a name leads round in circles');
      continue;
    }
    if (length > 63) throw new RangeError('a name has a label of an unknown kind');
    if (length === 0) return [labels.join('.'), end ?? at + 1];
    if (at + 1 + length > bytes.length) throw new RangeError('a name goes beyond the end');
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length).toLowerCase());
    at += 1 + length;
  }
};

const readRecord = (bytes: Buffer, at: number): ReadRecord => {
  const [name, afterName] = readName(bytes, at);
  const dataAt = afterName + 10;
  const end = dataAt + bytes.readUInt16BE(afterName + 8);
  if (end > bytes.length) throw new RangeError('a record goes beyond the end');
  return { at, name, type: bytes.readUInt16BE(afterName), dataAt, end };
};

/** Whether the last record signs what is before it. */
const readSignature = (
  bytes: Buffer,
  tsig: ReadRecord,
  {
    key,
    requestMac,
    nowSeconds,
  }: { readonly key: TsigKey; readonly requestMac: Buffer; readonly nowSeconds: number },
): Pick<DnsReply, 'tsigError' | 'isSigned'> => {
  const [algorithm, at] = readName(bytes, tsig.dataAt);
  const signedAt = bytes.readUIntBE(at, 6);
  const fudge = bytes.readUInt16BE(at + 6);
  const macAt = at + 10;
  const afterMac = macAt + bytes.readUInt16BE(at + 8);
  const mac = bytes.subarray(macAt, afterMac);
  const error = bytes.readUInt16BE(afterMac + 2);
  const other = bytes.subarray(afterMac + 6, afterMac + 6 + bytes.readUInt16BE(afterMac + 4));
  const signed = withAdditional(bytes.subarray(0, tsig.at), -1);
  bytes.copy(signed, 0, afterMac, afterMac + 2);
  const expected = macOf(key, signed, { nowSeconds: signedAt, error, other, fudge }, requestMac);
  return {
    tsigError: error,
    isSigned:
      tsig.name === key.name.toLowerCase() &&
      algorithm === ALGORITHM &&
      Math.abs(signedAt - nowSeconds) <= fudge &&
      mac.length === expected.length &&
      timingSafeEqual(mac, expected),
  };
};

/** @throws {RangeError} when it is no message of DNS */
export const readReply = (
  bytes: Buffer,
  signing: { readonly key: TsigKey; readonly requestMac: Buffer; readonly nowSeconds: number },
): DnsReply => {
  const flags = bytes.readUInt16BE(2);
  const [questions = 0, answered = 0, authority = 0, additional = 0] = [4, 6, 8, 10].map((at) =>
    bytes.readUInt16BE(at),
  );
  let at = HEADER_BYTES;
  for (let index = 0; index < questions; index += 1) at = readName(bytes, at)[1] + 4;
  const records: ReadRecord[] = [];
  for (let index = 0; index < answered + authority + additional; index += 1) {
    const record = readRecord(bytes, at);
    records.push(record);
    at = record.end;
  }
  const last = records.at(-1);
  const signature =
    additional > 0 && last?.type === RECORD.tsig
      ? readSignature(bytes, last, signing)
      : { tsigError: 0, isSigned: false };
  return {
    id: bytes.readUInt16BE(0),
    rcode: flags & 0x0f,
    isAuthoritative: (flags & AUTHORITATIVE) !== 0,
    answers: records.slice(0, answered).map(({ name, type }) => ({ name, type })),
    ...signature,
  };
};
