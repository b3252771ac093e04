// Downloads one file and checks it. Invariant: it returns only when the whole file is on disk and its SHA-256 is the
// pinned one; in any other case it throws and the caller throws the file away with its work folder.
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describeSystemError } from './failure.mjs';

/** A slow line is no reason to give up, a silent one is: the limit is on the pause between two pieces. */
export const STALL_LIMIT_MS = Number(process.env.CONTAINEROS_DOWNLOAD_STALL_MS ?? 30_000);
const TOTAL_LIMIT_MS = 30 * 60_000;

export async function download(url, path, sha256) {
  const controller = new AbortController();
  const abort = (reason) => controller.abort(new Error(reason));
  const total = setTimeout(
    () => abort(`it took longer than ${TOTAL_LIMIT_MS / 60_000} minutes`),
    TOTAL_LIMIT_MS,
  );
  const stall = () => abort(`the server sent nothing for ${STALL_LIMIT_MS / 1000} s`);
  let stallTimer = setTimeout(stall, STALL_LIMIT_MS);
  const hash = createHash('sha256');
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
        hash.update(chunk);
        done(null, chunk);
      },
    });
    await pipeline(response.body, watch, createWriteStream(path), { signal: controller.signal });
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
  const found = hash.digest('hex');
  if (found !== sha256) {
    throw new Error(
      `download of ${url} was thrown away: its SHA-256 is ${found}, not the pinned ${sha256} (a damaged download, or not the file that was published)`,
    );
  }
}
