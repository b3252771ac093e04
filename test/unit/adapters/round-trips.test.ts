/** Estimates of round-trip times from coordinates as Consul gives them. */

import type { ConsulClient } from '../../../adapters/consul/consul-client';
import { measureFarthest, measureRoundTrips } from '../../../adapters/consul/round-trips';

const at = (Node: string, seconds: number, Height = 0, Adjustment = 0) => ({
  Node,
  Segment: '',
  Coord: { Vec: [seconds, 0, 0, 0, 0, 0, 0, 0], Error: 0.1, Height, Adjustment },
});

const consulWith = (body: unknown): ConsulClient => ({
  address: 'http://consul',
  request: async <T>({ path }: { readonly path: string }) => {
    if (path !== '/coordinate/nodes') throw new Error(`not faked: ${path}`);
    return { status: 200, index: 1, body: body as T };
  },
  close: () => undefined,
});

const rounded = (trips: Awaited<ReturnType<typeof measureFarthest>>) =>
  trips.map(({ from, to, roundTripMs }) => `${from} ${to} ${Math.round(roundTripMs * 1_000) / 1_000}`);

test('heights and corrections count, but corrections never make a distance negative', async () => {
  const consul = consulWith([at('c', 0, 0.001, -0.5), at('a', 0, 0.002), at('b', 0.04, 0.001, 0.003)]);
  expect(rounded(await measureRoundTrips(consul, 'a'))).toEqual(['a b 46', 'a c 3']);
  expect(rounded(await measureRoundTrips(consul, 'b'))).toEqual(['b a 46', 'b c 42']);
});

test('far from each other are also two that are near the server', async () => {
  const consul = consulWith([at('server', 0), at('east', 0.08), at('west', -0.08)]);
  expect(rounded(await measureFarthest(consul))).toEqual([
    'east west 160',
    'server east 80',
    'west east 160',
  ]);
});

test.each([[[]], [null], [[at('b', 1)]]])('of %j nothing is known of a', async (body) => {
  expect(await measureRoundTrips(consulWith(body), 'a')).toEqual([]);
  expect(await measureFarthest(consulWith(body))).toEqual([]);
});
