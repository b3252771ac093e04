/**
 * The guard of exclusive replicas: a process of its own that kills those whose lease is over, when the node worker that
 * should have stopped them is frozen, or gone.
 *
 * Invariants: it only ever kills, and only containers of replicas whose deadline the worker has written down and not
 * moved; it needs nothing but the file and the engine; of several guards for one file the newest stays. It takes no
 * notice of SIGTERM, so that who stops the whole service waits until nothing runs without a lease.
 *
 * Usage: node lease-guard.js FILE DOCKER-SOCKET CLUSTER-ID
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

import { LABEL } from '../../contracts/docker';
import { GUARD_LEAD_MS } from './lease-book';
import { machineClockMs, readDeadlines } from './lease-file';

const LOOK_EVERY_MS = 250;
const ENGINE_TIMEOUT_MS = 2_000;
/** With nothing to guard for so long, it ends. */
const IDLE_MS = 10_000;

const ask = (socketPath: string, method: 'GET' | 'POST', path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, timeout: ENGINE_TIMEOUT_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => {
        const { statusCode = 0 } = response;
        // 404, 409: it is gone, or does not run any more.
        if (statusCode < 400 || statusCode === 404 || statusCode === 409) resolve(text);
        else reject(new Error(`the engine says ${statusCode} to ${path}: ${text}`));
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer in ${ENGINE_TIMEOUT_MS} ms`)));
    call.on('error', reject);
    call.end();
  });

/** @returns whether something of it ran */
const killReplica = async (socketPath: string, clusterId: string, replicaId: string): Promise<boolean> => {
  const label = [`${LABEL.cluster}=${clusterId}`, `${LABEL.replica}=${replicaId}`, `${LABEL.role}=container`];
  const filters = encodeURIComponent(JSON.stringify({ label }));
  const running = JSON.parse(await ask(socketPath, 'GET', `/containers/json?filters=${filters}`)) as {
    readonly Id: string;
  }[];
  await Promise.all(running.map(({ Id }) => ask(socketPath, 'POST', `/containers/${Id}/kill`)));
  return running.length > 0;
};

/** Whether another guard has taken over, or the folder is gone; a file that cannot be read for a moment says neither. */
const isReplaced = (own: string): boolean => {
  try {
    return readFileSync(own, 'utf8') !== String(process.pid);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
};

const guard = async (file: string, socketPath: string, clusterId: string): Promise<void> => {
  const own = `${file}.guard`;
  writeFileSync(own, String(process.pid));
  let deadlines: Readonly<Record<string, number>> = {};
  let idleSince = machineClockMs();
  for (;;) {
    if (isReplaced(own)) return;
    // In the middle of a write the one before counts.
    deadlines = readDeadlines(file) ?? deadlines;
    const now = machineClockMs();
    const over = Object.keys(deadlines).filter((id) => now >= (deadlines[id] ?? 0) - GUARD_LEAD_MS);
    const killed = await Promise.all(
      over.map((id) => killReplica(socketPath, clusterId, id).catch(() => true)),
    );
    const isIdle = over.length === Object.keys(deadlines).length && !killed.includes(true);
    if (!isIdle) idleSince = machineClockMs();
    else if (machineClockMs() - idleSince > IDLE_MS) return;
    await delay(LOOK_EVERY_MS);
  }
};

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
const [file = '', socketPath = '', clusterId = ''] = process.argv.slice(2);
guard(file, socketPath, clusterId).then(
  () => process.exit(0),
  () => process.exit(1),
);
