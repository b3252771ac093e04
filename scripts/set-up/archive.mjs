// Takes one file out of a .zip or .tar.gz archive, without `unzip` or `tar`, which a bare machine may lack.
// The archive's checksum has been checked before, so the readers know only the plain forms and reject all others.
import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createInflateRaw } from 'node:zlib';

export async function extractFile(archivePath, name, outputPath) {
  if (archivePath.endsWith('.zip')) await extractFromZip(archivePath, name, outputPath);
  else await extractFromTarGz(archivePath, name, outputPath);
}

const END_SIGNATURE = 0x06054b50;
const ENTRY_SIGNATURE = 0x02014b50;
const END_BYTES = 22;
const LONGEST_COMMENT_BYTES = 65_535;

async function extractFromZip(archivePath, name, outputPath) {
  const file = await open(archivePath);
  try {
    const { size } = await file.stat();
    const tail = await readAt(file, Math.max(0, size - END_BYTES - LONGEST_COMMENT_BYTES), size);
    let end = tail.length - END_BYTES;
    while (end >= 0 && tail.readUInt32LE(end) !== END_SIGNATURE) end -= 1;
    if (end < 0) throw new Error('the zip archive has no directory');
    const directoryBytes = tail.readUInt32LE(end + 12);
    const directoryAt = tail.readUInt32LE(end + 16);
    const directory = await readAt(file, directoryAt, directoryAt + directoryBytes);
    const entry = findZipEntry(directory, name);
    if (entry === undefined) throw new Error(`the zip archive holds no file ${name}`);
    // The local header repeats the name and may have an extra field of another length than the directory's.
    const header = await readAt(file, entry.headerAt, entry.headerAt + 30);
    const dataAt = entry.headerAt + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    const source = createReadStream(archivePath, { start: dataAt, end: dataAt + entry.packedBytes - 1 });
    if (entry.method !== 0 && entry.method !== 8) throw new Error(`zip method ${entry.method} is not known`);
    const unpack = entry.method === 8 ? createInflateRaw() : new PassThrough();
    await writeWhole(outputPath, entry.bytes, (output) => pipeline(source, unpack, output));
  } finally {
    await file.close();
  }
}

function findZipEntry(directory, name) {
  let at = 0;
  while (at + 46 <= directory.length && directory.readUInt32LE(at) === ENTRY_SIGNATURE) {
    const nameBytes = directory.readUInt16LE(at + 28);
    const entryName = directory.toString('utf8', at + 46, at + 46 + nameBytes);
    if (basename(entryName) === name && !entryName.endsWith('/')) {
      return {
        method: directory.readUInt16LE(at + 10),
        packedBytes: directory.readUInt32LE(at + 20),
        bytes: directory.readUInt32LE(at + 24),
        headerAt: directory.readUInt32LE(at + 42),
      };
    }
    at += 46 + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  return undefined;
}

const BLOCK_BYTES = 512;

async function extractFromTarGz(archivePath, name, outputPath) {
  const source = createReadStream(archivePath).pipe(createGunzip());
  const read = blockReader(source);
  try {
    for (;;) {
      const header = await read.exactly(BLOCK_BYTES);
      if (header === undefined || header[0] === 0) throw new Error(`the tar archive holds no file ${name}`);
      const entryName = header.toString('utf8', 0, 100).replace(/\0.*$/s, '');
      const bytes = Number.parseInt(header.toString('latin1', 124, 136).replace(/[\0 ]/g, ''), 8);
      const type = String.fromCharCode(header[156]);
      const paddedBytes = Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
      if (basename(entryName) === name && (type === '0' || type === '\0')) {
        await writeWhole(outputPath, bytes, (output) => pipeline(read.upTo(bytes), output));
        return;
      }
      for await (const skipped of read.upTo(paddedBytes)) void skipped;
    }
  } finally {
    source.destroy();
  }
}

/** Reads a stream in pieces of the wanted size. */
function blockReader(source) {
  const chunks = source[Symbol.asyncIterator]();
  let rest = Buffer.alloc(0);
  const fill = async () => {
    const { value, done } = await chunks.next();
    if (!done) rest = rest.length === 0 ? value : Buffer.concat([rest, value]);
    return !done;
  };
  return {
    async exactly(bytes) {
      while (rest.length < bytes) if (!(await fill())) return undefined;
      const piece = rest.subarray(0, bytes);
      rest = rest.subarray(bytes);
      return piece;
    },
    async *upTo(bytes) {
      let left = bytes;
      while (left > 0) {
        if (rest.length === 0 && !(await fill())) return;
        const piece = rest.subarray(0, left);
        rest = rest.subarray(piece.length);
        left -= piece.length;
        yield piece;
      }
    },
  };
}

async function writeWhole(path, expectedBytes, fill) {
  const output = createWriteStream(path, { mode: 0o755 });
  await fill(output);
  if (output.bytesWritten !== expectedBytes) {
    throw new Error(
      `the archive is cut off: ${output.bytesWritten} of ${expectedBytes} bytes of ${basename(path)}`,
    );
  }
}

async function readAt(file, start, end) {
  const buffer = Buffer.alloc(Math.max(0, end - start));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
  return buffer.subarray(0, bytesRead);
}
