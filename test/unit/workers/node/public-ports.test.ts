/** What the table of a node has. */

import type { PublicPortRoute } from '../../../../domain/ingress/public-ports';
import type { TrafficSplit } from '../../../../domain/traffic';
import { forwardedPorts } from '../../../../workers/node/public-ports';

const endpoint = (replicaId: string, nodeId: string, release: number, port: number) => ({
  replicaId,
  nodeId,
  release,
  address: `10.0.0.${nodeId}`,
  port,
});

const route = (
  endpoints: PublicPortRoute['endpoints'],
  more: Partial<PublicPortRoute> = {},
): PublicPortRoute => ({
  project: 'default',
  name: 'gate',
  port: 5432,
  protocol: 'tcp',
  endpoints,
  lost: [],
  ...more,
});

const split = (shares: TrafficSplit['shares']) =>
  new Map<string, TrafficSplit>([
    [
      'default/gate',
      {
        project: 'default',
        name: 'gate',
        operation: 'op',
        release: 2,
        stage: 1,
        isJudged: false,
        shares,
        writtenAtMs: 0,
      },
    ],
  ]);

const both = route([endpoint('a', '1', 1, 20_000), endpoint('b', '2', 2, 20_001)]);
const portsIn = (table: ReturnType<typeof forwardedPorts>) =>
  table[0]?.groups.map(({ weight, endpoints }) => [weight, endpoints.map(({ port }) => port)]);

test('all replicas are equals, of whatever release, and a local one is known as such', () => {
  const [port] = forwardedPorts([both], new Map(), '1');
  expect(port?.groups).toEqual([
    {
      weight: 1,
      endpoints: [
        { address: '10.0.0.1', port: 20_000, isLocal: true },
        { address: '10.0.0.2', port: 20_001, isLocal: false },
      ],
    },
  ]);
});

test('while a release takes over, each has what the split says, and one without a share has nothing', () => {
  const shares = (old: number, fresh: number) =>
    split([
      { release: 1, weight: old },
      { release: 2, weight: fresh },
    ]);
  expect(portsIn(forwardedPorts([both], shares(90, 10), '1'))).toEqual([
    [90, [20_000]],
    [10, [20_001]],
  ]);
  expect(portsIn(forwardedPorts([both], shares(100, 0), '1'))).toEqual([[100, [20_000]]]);
  // A split that leaves nobody is not followed.
  const [old] = both.endpoints;
  expect(portsIn(forwardedPorts([route(old ? [old] : [])], shares(0, 100), '1'))).toEqual([[1, [20_000]]]);
});

test('without replicas a port has no group; an address that serves again is not lost', () => {
  expect(forwardedPorts([route([])], new Map(), '1')).toEqual([
    { port: 5432, protocol: 'tcp', groups: [], lost: [] },
  ]);
  const lost = [
    { address: '10.0.0.1', port: 20_000 },
    { address: '10.0.0.3', port: 20_003 },
  ];
  expect(forwardedPorts([{ ...both, lost }], new Map(), '1')[0]?.lost).toEqual([lost[1]]);
});
