// How soon the ingress follows a replica that comes and goes, while clients send as many requests as they can.
import { followReplica } from '../ingress/following';
import { startBackends } from '../ingress/ingress-bed';
import { startOwnIngress } from '../ingress/own-ingress';
import { startWrk } from '../ingress/programs';
import { followMetric } from '../measurements';
import type { IngressCaseOptions } from '../run-ingress';

const HOSTNAME = 'web.localhost';
const CONNECTIONS = 8;
export const FOLLOW_LIMIT_MS = 200;

export const ingressChangesCase = async ({
  rounds,
  measurements,
  say,
}: IngressCaseOptions): Promise<void> => {
  const backends = await startBackends(2, true);
  const [staying = 0, coming = 0] = backends.ports;
  const own = await startOwnIngress();
  try {
    await own.serve([{ hostname: HOSTNAME, endpoints: [`127.0.0.1:${staying}`] }]);
    const load = startWrk({
      url: `http://127.0.0.1:${own.port}/`,
      hostname: HOSTNAME,
      connections: CONNECTIONS,
    });
    const replica = {
      id: 'web-coming',
      hostname: HOSTNAME,
      endpoint: `127.0.0.1:${coming}`,
      log: backends.logs[1] ?? '',
    };
    for (let round = 0; round < rounds; round += 1) {
      const { firstMs, lastMs, confirmedMs } = await followReplica(own, replica);
      const metrics = [
        [followMetric('a replica runs: its first request', FOLLOW_LIMIT_MS), firstMs],
        [followMetric('a replica stops: its last request', FOLLOW_LIMIT_MS), lastMs],
        [followMetric('a replica stops: the ingress has confirmed it', FOLLOW_LIMIT_MS), confirmedMs],
      ] as const;
      for (const [metric, ms] of metrics) measurements.add(metric, 'containeros', ms);
      say(
        `round ${round + 1}: first ${firstMs.toFixed(0)} ms, last ${lastMs.toFixed(0)} ms, confirmed ${confirmedMs.toFixed(0)} ms`,
      );
    }
    // No request has failed, or it throws.
    const { requests } = await load.stop();
    say(`${requests} requests, none of which failed`);
  } finally {
    await own.stop();
    await backends.stop();
  }
};
