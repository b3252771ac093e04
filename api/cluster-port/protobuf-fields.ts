/**
 * The fields of a protobuf message as they stand in its bytes, so that single ones can be looked at and replaced
 * while everything else, known here or not, passes as it is.
 *
 * Invariant: stricter than any reader: what two readers could understand differently (a field twice, a group, a
 * length beyond the end, a number of unusual size) is malformed, so that what was checked is what the server sees.
 */

export class MalformedMessage extends Error {}

export interface Field {
  readonly number: number;
  /** 0: varint; 1: 8 bytes; 2: a length and that many bytes; 5: 4 bytes. */
  readonly wireType: number;
  /** Where the field begins, where its value does (behind a length), and where both end. */
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
}

const VARINT = 0;
const FIXED_64 = 1;
const LENGTH = 2;
const FIXED_32 = 5;

interface Varint {
  readonly value: number;
  readonly end: number;
}

const readVarint = (bytes: Buffer, from: number): Varint => {
  let value = 0;
  let factor = 1;
  for (let at = from; at < from + 10; at += 1) {
    const byte = bytes[at];
    if (byte === undefined) break;
    value += (byte & 0x7f) * factor; // beyond 2^53 it is no longer exact, and never small again
    if (byte < 0x80) return { value, end: at + 1 };
    factor *= 128;
  }
  throw new MalformedMessage('a number in it does not end');
};

const writeVarint = (value: number): Buffer => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.of(...bytes, rest);
};

/** @throws {MalformedMessage} */
export const readFields = (message: Buffer): readonly Field[] => {
  const fields: Field[] = [];
  let at = 0;
  while (at < message.length) {
    const start = at;
    const key = readVarint(message, at);
    const number = Math.floor(key.value / 8);
    const wireType = key.value % 8;
    if (number < 1 || number > 0x1fffffff)
      throw new MalformedMessage('it has a field without a valid number');
    let valueStart = key.end;
    switch (wireType) {
      case VARINT:
        at = readVarint(message, key.end).end;
        break;
      case FIXED_64:
        at = key.end + 8;
        break;
      case LENGTH: {
        const length = readVarint(message, key.end);
        valueStart = length.end;
        at = length.end + length.value;
        break;
      }
      case FIXED_32:
        at = key.end + 4;
        break;
      default:
        throw new MalformedMessage(`its field ${number} is of an unknown kind`);
    }
    if (at > message.length) throw new MalformedMessage(`its field ${number} is longer than the message`);
    fields.push({ number, wireType, start, valueStart, end: at });
  }
  return fields;
};

const single = (fields: readonly Field[], number: number, wireType: number): Field | undefined => {
  const found = fields.filter((field) => field.number === number);
  if (found.length > 1) throw new MalformedMessage(`its field ${number} is there twice`);
  const [field] = found;
  if (field !== undefined && field.wireType !== wireType) {
    throw new MalformedMessage(`its field ${number} is of the wrong kind`);
  }
  return field;
};

/** A string, bytes or a message; empty when it is not there, as protobuf has it. @throws {MalformedMessage} */
export const bytesAt = (message: Buffer, fields: readonly Field[], number: number): Buffer => {
  const field = single(fields, number, LENGTH);
  return field === undefined ? Buffer.alloc(0) : message.subarray(field.valueStart, field.end);
};

/** A number, or 0 when it is not there. @throws {MalformedMessage} */
export const numberAt = (message: Buffer, fields: readonly Field[], number: number): number => {
  const field = single(fields, number, VARINT);
  return field === undefined ? 0 : readVarint(message, field.valueStart).value;
};

/** The message with another value in one of its fields of bytes; the rest is copied as it is. */
export const withBytesAt = (
  message: Buffer,
  fields: readonly Field[],
  number: number,
  value: Buffer,
): Buffer => {
  const field = single(fields, number, LENGTH);
  const from = field?.start ?? message.length;
  const to = field?.end ?? message.length;
  const key = writeVarint(number * 8 + LENGTH);
  return Buffer.concat([
    message.subarray(0, from),
    key,
    writeVarint(value.length),
    value,
    message.subarray(to),
  ]);
};
