// A machine that is busy with something else is no lost node: with every core taken, nothing is held for lost.
// CONTAINEROS_TEST_STRESS_SECONDS says for how long (docs/test-cluster.md).
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { apply, events, serving, webSpec } from '../support/product';
import { findProgram } from '../support/programs';

const STRESS_SECONDS = Number(process.env['CONTAINEROS_TEST_STRESS_SECONDS'] ?? 45);
if (!(STRESS_SECONDS > 0)) throw new Error('CONTAINEROS_TEST_STRESS_SECONDS has to be a number above 0');
const LONGEST_TEST_SECONDS = STRESS_SECONDS + 120;
/** Each core has two that never wait, beside all that the cluster does. */
const HOGS = 2 * cpus().length;
/** Of the time of all cores: what is left when something waits for the disk. */
const MAX_IDLE = 0.05;

let cluster: Cluster;
const hogs: ChildProcess[] = [];
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
}, 120_000);
afterAll(async () => {
  for (const hog of hogs) {
    hog.kill('SIGTERM');
    if (!hasEnded(hog)) await once(hog, 'exit');
  }
  await cluster.dispose();
}, 60_000);

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean =>
  exitCode !== null || signalCode !== null;

/** stress-ng where it is installed, else busy loops. They end by themselves, should nobody be left to end them. */
function takeCores(): readonly ChildProcess[] {
  try {
    const stressNg = findProgram('stress-ng');
    const options = ['--cpu', String(HOGS), '--timeout', `${LONGEST_TEST_SECONDS}s`, '--quiet'];
    return [spawn(stressNg, options, { cwd: '/', stdio: 'ignore' })];
  } catch {
    const loop = `for (const end = Date.now() + ${LONGEST_TEST_SECONDS * 1_000}; Date.now() < end; );`;
    return Array.from({ length: HOGS }, () => spawn(process.execPath, ['--eval', loop], { stdio: 'ignore' }));
  }
}

/** Milliseconds of all cores since the computer's start. */
function coreTimes(): { readonly idle: number; readonly all: number } {
  const times = cpus().map(({ times: each }) => each);
  const idle = times.reduce((sum, each) => sum + each.idle, 0);
  return { idle, all: times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, idle) };
}

test(
  `no node is held for lost in ${STRESS_SECONDS} s with all cores taken`,
  async () => {
    await apply(cluster.instance, webSpec('web', await cluster.web(), { scale: 6 }));
    const told = new Map<string, string>();
    /** Often enough that none is forgotten before. */
    const listen = async () => {
      for (const { id, type } of await events(cluster.instance, 'type=node.&limit=1000')) told.set(id, type);
    };
    const before = coreTimes();
    hogs.push(...takeCores());
    const endMs = performance.now() + STRESS_SECONDS * 1_000;
    let scale = 6;
    let changes = 0;
    while (performance.now() < endMs) {
      // Work for the nodes meanwhile, as far as they come to it.
      scale = scale === 6 ? 9 : 6;
      await apply(cluster.instance, webSpec('web', await cluster.web(), { scale }));
      changes += 1;
      await listen();
      await delay(1_000);
    }
    const after = coreTimes();
    expect(hogs.some(hasEnded)).toBe(false);
    const idle = (after.idle - before.idle) / (after.all - before.all);
    expect(idle).toBeLessThan(MAX_IDLE);
    await listen();
    const types = [...told.values()];
    expect(types.filter((type) => type === 'node.joined')).toHaveLength(2);
    expect(types.filter((type) => /^node\.(lost|unstable)$/.test(type))).toEqual([]);
    await serving(cluster.instance, 'web', scale, 'web v1');
    await assertClusterConverged(cluster);
    process.stdout.write(
      `${STRESS_SECONDS} s with ${HOGS} busy loops on ${cpus().length} cores (idle: ${(idle * 100).toFixed(1)} %): ${changes} changes of scale, no node lost\n`,
    );
  },
  LONGEST_TEST_SECONDS * 1_000,
);
