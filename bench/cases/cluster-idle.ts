// What ContainerOS costs a machine that has joined when nobody asks for anything.
// Invariant: all members are looked at over the same minute, in which nothing changes.
import type { Bed } from '../bed';
import { memberMetric, type Measurements } from '../measurements';
import type { Peer } from '../peer';
import { readMemoryTogether } from '../processes';
import { cpuOf, observe, sayProcesses, settle, type IdleReport } from './idle';

const REPLICAS = 6;

export const clusterIdleCase = async (options: {
  readonly bed: Bed;
  readonly peer: Peer;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
}): Promise<readonly IdleReport[]> => {
  const { bed, peer, measurements, say } = options;
  const [, ...members] = bed.installations;
  const look = async (what: string): Promise<readonly IdleReport[]> => {
    await settle(what, say);
    const reports = await observe(members, ({ engine }) => `${engine.hostname}, ${what}`);
    members.forEach(({ product }, index) => {
      const report = reports[index];
      if (report === undefined) throw new Error('a machine was not looked at');
      const own = report.processes.filter(({ role }) => role === 'node' || role === 'consul');
      const ownBytes = readMemoryTogether(own.map(({ role }) => product.pid(role)));
      const add = (kind: 'memory' | 'cpu', part: Parameters<typeof memberMetric>[1], value: number) =>
        measurements.add(memberMetric(kind, part, report.state), peer.id, value);
      add('memory', 'worker and Consul agent', ownBytes / 1e6);
      add('cpu', 'worker and Consul agent', cpuOf(own));
      add('memory', 'in all', report.togetherBytes / 1e6);
      add('cpu', 'in all', cpuOf(report.processes));
      say(`${report.state}: worker and Consul agent have ${(ownBytes / 1e6).toFixed(0)} MB together`);
      sayProcesses(report, say);
    });
    return reports;
  };
  const before = await look('no microservice');
  try {
    await peer.deploy('idle', REPLICAS);
    return [...before, ...(await look(`${REPLICAS} replicas in the cluster`))];
  } finally {
    await peer.clear();
  }
};
