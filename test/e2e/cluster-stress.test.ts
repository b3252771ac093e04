// A machine that is busy with something else is no lost node: with every core taken, nothing is held for lost.
// CONTAINEROS_TEST_STRESS_SECONDS says for how long; 600 is what was tried by hand.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { apply, events, serving, webSpec } from '../support/product';

const STRESS_SECONDS = Number(process.env['CONTAINEROS_TEST_STRESS_SECONDS'] ?? 45);
/** Each core has two that never wait, beside all that the cluster does. */
const HOGS_PER_CORE = 2;

let cluster: Cluster;
const hogs: ChildProcess[] = [];
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3 });
}, 120_000);
afterAll(async () => {
  for (const hog of hogs) {
    hog.kill('SIGKILL');
    if (hog.exitCode === null && hog.signalCode === null) await once(hog, 'exit');
  }
  await cluster.dispose();
}, 60_000);

test(
  `no node is held for lost in ${STRESS_SECONDS} s with all cores taken`,
  async () => {
    await apply(cluster.instance, webSpec('web', await cluster.web(), { scale: 6 }));
    for (let at = 0; at < HOGS_PER_CORE * cpus().length; at += 1) {
      hogs.push(spawn(process.execPath, ['--eval', 'for (;;);'], { stdio: 'ignore' }));
    }
    const endMs = performance.now() + STRESS_SECONDS * 1_000;
    let scale = 6;
    while (performance.now() < endMs) {
      // Work for the nodes meanwhile, as far as they come to it.
      scale = scale === 6 ? 9 : 6;
      await apply(cluster.instance, webSpec('web', await cluster.web(), { scale }));
      await delay(1_000);
    }
    expect(hogs.every(({ exitCode, signalCode }) => exitCode === null && signalCode === null)).toBe(true);
    const told = (await events(cluster.instance, 'limit=1000')).map(({ type }) => type);
    expect(told.filter((type) => type === 'node.joined')).toHaveLength(2);
    expect(told.filter((type) => /^node\.(lost|unstable)$/.test(type))).toEqual([]);
    await serving(cluster.instance, 'web', scale, 'web v1');
    await assertClusterConverged(cluster);
  },
  (STRESS_SECONDS + 120) * 1_000,
);
