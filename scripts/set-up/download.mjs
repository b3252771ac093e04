// Downloads one file and checks it. Invariant: it returns only when the whole file is on disk and has the checksum that
// it is to have; in any other case it throws and the caller throws the file away with its work folder.
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describeSystemError } from './failure.mjs';

/** A slow line is no reason to give up, a silent one is: the limit is on the pause between two pieces. */
export const STALL_LIMIT_MS = Number(process.env.CONTAINEROS_DOWNLOAD_STALL_MS ?? 30_000);
const TOTAL_LIMIT_MS = 30 * 60_000;
const MAX_LIST_BYTES = 1_000_000;

/** Passes the file on piece by piece; throws when it does not come whole. */
async function receive(url, sink, onChunk) {
  const controller = new AbortController();
  const abort = (reason) => controller.abort(new Error(reason));
  const total = setTimeout(
    () => abort(`it took longer than ${TOTAL_LIMIT_MS / 60_000} minutes`),
    TOTAL_LIMIT_MS,
  );
  const stall = () => abort(`the server sent nothing for ${STALL_LIMIT_MS / 1000} s`);
  let stallTimer = setTimeout(stall, STALL_LIMIT_MS);
  let receivedBytes = 0;
  try {
    const response = await fetch(url, { signal: controller.signal, redirect: 'follow' });
    if (!response.ok) throw new Error(`the server answered ${response.status} ${response.statusText}`);
    const expectedBytes = Number(response.headers.get('content-length') ?? Number.NaN);
    const watch = new Transform({
      transform(chunk, _encoding, done) {
        clearTimeout(stallTimer);
        stallTimer = setTimeout(stall, STALL_LIMIT_MS);
        receivedBytes += chunk.length;
        onChunk(chunk, abort);
        done(null, chunk);
      },
    });
    await pipeline(response.body, watch, sink, { signal: controller.signal });
    if (Number.isFinite(expectedBytes) && receivedBytes < expectedBytes) {
      throw new Error(`it ended after ${receivedBytes} of ${expectedBytes} bytes`);
    }
  } catch (error) {
    const reason = controller.signal.aborted ? controller.signal.reason.message : describeSystemError(error);
    const after = receivedBytes > 0 ? ` (after ${receivedBytes} bytes)` : '';
    throw new Error(`download of ${url} failed: ${reason}${after}`);
  } finally {
    clearTimeout(total);
    clearTimeout(stallTimer);
  }
}

/** @param checksum the `algorithm` (as Node.js calls it), the `digest` in hexadecimal, and its `source` in words */
export async function download(url, path, { algorithm, digest, source }) {
  const hash = createHash(algorithm);
  await receive(url, createWriteStream(path), (chunk) => hash.update(chunk));
  const found = hash.digest('hex');
  if (found !== digest) {
    throw new Error(
      `download of ${url} was thrown away: its ${algorithm.replace('sha', 'SHA-')} is ${found}, not ${source} ${digest} (a damaged download, or not the file that was published)`,
    );
  }
}

/** @returns what the publisher's list at this address (as of sha512sum) says of a file, as a checksum for `download` */
export async function publishedChecksum(listUrl, fileName) {
  const pieces = [];
  let bytes = 0;
  const sink = new Writable({ write: (_chunk, _encoding, done) => done() });
  await receive(listUrl, sink, (chunk, abort) => {
    pieces.push(chunk);
    if ((bytes += chunk.length) > MAX_LIST_BYTES) abort('it is far too long for a list of checksums');
  });
  for (const line of Buffer.concat(pieces).toString('utf8').split('\n')) {
    const [, digest, name] = /^([0-9a-f]{128}) [ *](\S+)$/.exec(line) ?? [];
    if (name === fileName) return { algorithm: 'sha512', digest, source: 'the published' };
  }
  throw new Error(`the list of checksums at ${listUrl} has no SHA-512 of ${fileName}`);
}
