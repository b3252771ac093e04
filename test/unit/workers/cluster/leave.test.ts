/** What a machine that leaves a cluster is told that it waits for. */

import { waitInWords } from '../../../../workers/cluster/leave';

const REST = 'Interrupted, the node stays, drained as far as it is; --force leaves at once.';
const answer = { hasLeft: false, replicas: 0, microservices: [] };

test.each([
  [{ replicas: 1, microservices: ['web'] }, [`1 replica has to start elsewhere first: web. ${REST}`]],
  [
    {
      replicas: 3,
      microservices: ['shop', 'web'],
      troubles: ['db keeps its data in volumes here, and stays.'],
    },
    [
      `3 replicas have to start elsewhere first: shop, web. ${REST}`,
      '  db keeps its data in volumes here, and stays.',
    ],
  ],
  [
    { troubles: ['logs is a daemon, and stops last.'] },
    [`What is left here stops. ${REST}`, '  logs is a daemon, and stops last.'],
  ],
])('%j', (waiting, lines) => {
  expect(waitInWords({ ...answer, ...waiting })).toBe(lines.join('\n'));
});
