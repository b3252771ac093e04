// A lock between processes of one machine, without a native module: Lamport's bakery in a folder.
// Why not one lock file: taking over the file of a dead holder is a race (two waiters see the same stale file, and
// the second removes the first one's new file). Here each process writes only files that bear its own identity, a
// dead process's files are simply not counted, and no file is ever shared. A holder that is killed needs no clean-up.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetUpError } from './failure.mjs';
import { onStop, processIdentity } from './processes.mjs';
import { say } from './steps.mjs';

const POLL_MS = 100;
let serial = 0;

/** Runs `work` while no other process (and no other call of this one) holds the lock kept in `folder`. */
export async function withLock(folder, what, work, { timeoutMs = 60 * 60_000 } = {}) {
  mkdirSync(folder, { recursive: true });
  serial += 1;
  const me = `${processIdentity(process.pid)}-${serial}`;
  const choosing = join(folder, `choosing.0.${me}`);
  writeFileSync(choosing, '');
  const number = 1 + Math.max(0, ...readTickets(folder).map((ticket) => ticket.number));
  const ticket = join(folder, `ticket.${number}.${me}`);
  writeFileSync(ticket, '');
  rmSync(choosing, { force: true });
  const release = () => rmSync(ticket, { force: true });
  const forget = onStop(release);
  try {
    await waitForTurn(folder, what, number, me, timeoutMs);
    return await work();
  } finally {
    release();
    forget();
  }
}

async function waitForTurn(folder, what, number, me, timeoutMs) {
  const deadlineMs = performance.now() + timeoutMs;
  let saidSo = false;
  for (;;) {
    const ahead = readTickets(folder).find((other) => other.owner !== me && isAhead(other, number, me));
    if (ahead === undefined) return;
    if (performance.now() > deadlineMs) {
      throw new SetUpError(
        `Waited ${Math.round(timeoutMs / 1000)} s for process ${ahead.pid}, which is busy with the same thing: ${what}.`,
        [],
        [`Wait for process ${ahead.pid} to end, or end it, then run the same command again.`],
      );
    }
    if (!saidSo) say(`${what}: waiting for process ${ahead.pid}, which is at it already`);
    saidSo = true;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const isAhead = (other, number, me) =>
  other.kind === 'choosing' || other.number < number || (other.number === number && other.owner < me);

/** Tickets of processes that are alive; those of the dead are removed on the way. */
function readTickets(folder) {
  const tickets = [];
  for (const file of readdirSync(folder)) {
    const match = /^(choosing|ticket)\.(\d+)\.((\d+)-\d+)-\d+$/.exec(file);
    if (match === null) continue;
    const [, kind, number, identity, pid] = match;
    if (processIdentity(Number(pid)) === identity) {
      tickets.push({ kind, number: Number(number), owner: file.split('.')[2], pid: Number(pid) });
    } else {
      rmSync(join(folder, file), { force: true });
    }
  }
  return tickets;
}
