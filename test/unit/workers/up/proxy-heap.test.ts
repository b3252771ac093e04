/** What the proxy may keep before it collects: more where there is much memory, and never without a limit there. */

import { proxyHeap } from '../../../../workers/up/engines';

const GB = 2 ** 30;

test.each([
  ['a small machine', 2, 1, { GOGC: '400' }],
  ['a small machine with many hostnames', 1_000, 1, { GOGC: '200' }],
  ['a machine just below the limit', 200, 7.9, { GOGC: '400' }],
  ['a large machine', 200, 8, { GOGC: '800', GOMEMLIMIT: String(GB) }],
  ['a large machine with many hostnames', 201, 64, { GOGC: '400', GOMEMLIMIT: String(8 * GB) }],
])('on %s', (_what, hostnames, memoryGb, expected) => {
  expect(proxyHeap(hostnames, memoryGb * GB)).toEqual(expected);
});
