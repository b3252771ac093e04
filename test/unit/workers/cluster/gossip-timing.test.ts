// The head decides from what Consul has measured, and goes first towards `wan`, last back.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import type { ConsulClient, ConsulRequest, ConsulResponse } from '../../../../adapters/consul/consul-client';
import { MEASUREMENTS_TO_LAN, type GossipTiming } from '../../../../domain/gossip-profile';
import {
  decideGossipTiming,
  forgetGossipTiming,
  readGossipTiming,
  writeGossipTiming,
} from '../../../../workers/cluster/gossip-timing';
import { parseConfig } from '../../../../workers/config';
import { eventually } from '../../../support/wait';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-gossip-'));
});
afterEach(() => rmSync(dataDir, { recursive: true }));

/** Two members, so far apart as `roundTripMs` says, and nothing else. */
const consulWith = (distance: { roundTripMs: number; looks: number }): ConsulClient => ({
  address: 'http://consul',
  request: <T>({ path }: ConsulRequest): Promise<ConsulResponse<T>> => {
    if (path !== '/coordinate/nodes') throw new Error(`not faked: ${path}`);
    distance.looks += 1;
    const at = (Node: string, x: number) => ({
      Node,
      Coord: { Vec: [x, 0, 0, 0, 0, 0, 0, 0], Height: 0, Adjustment: 0, Error: 0.1 },
    });
    const body = [at('one', 0), at('two', distance.roundTripMs / 1_000)] as T;
    return Promise.resolve({ status: 200, index: 1, body });
  },
  close: () => undefined,
});

test('a far member turns the timing at once on the head, and a near one turns it back there last', async () => {
  const parsed = parseConfig(['--data-dir', dataDir], {}, true, () => '10.0.0.1');
  const config = { ...parsed, gossipEveryMs: 4 };
  const distance = { roundTripMs: 10, looks: 0 };
  const onHead: { readonly timing: GossipTiming; readonly looks: number }[] = [];
  const decider = decideGossipTiming(config, consulWith(distance), pino({ level: 'silent' }), (timing) =>
    onHead.push({ timing, looks: distance.looks }),
  );
  try {
    await eventually(() => expect(distance.looks).toBeGreaterThan(5));
    expect(decider.timing()).toBe('lan');
    distance.roundTripMs = 300;
    await eventually(() => expect(onHead).toHaveLength(1));
    expect(decider.timing()).toBe('wan');
    expect(onHead[0]?.timing).toBe('wan');
    distance.roundTripMs = 10;
    await eventually(() => expect(decider.timing()).toBe('lan'));
    await eventually(() => expect(onHead).toHaveLength(2));
    expect(onHead[1]?.timing).toBe('lan');
    // Members, who ask once a minute, have heard of it two looks before.
    const looks = (onHead[1]?.looks ?? 0) - (onHead[0]?.looks ?? 0);
    expect(looks).toBeGreaterThanOrEqual(MEASUREMENTS_TO_LAN + 2);
  } finally {
    decider.stop();
  }
});

test('what was decided outlives a restart, until the cluster is left', () => {
  expect(readGossipTiming({ dataDir })).toBe('lan');
  writeGossipTiming({ dataDir }, 'wan');
  expect(readGossipTiming({ dataDir })).toBe('wan');
  const config = parseConfig(['--data-dir', dataDir], {}, true, () => '10.0.0.1');
  const decider = decideGossipTiming(
    config,
    consulWith({ roundTripMs: 1, looks: 0 }),
    pino({ level: 'silent' }),
    () => undefined,
  );
  expect(decider.timing()).toBe('wan');
  decider.stop();
  forgetGossipTiming({ dataDir });
  expect(readGossipTiming({ dataDir })).toBe('lan');
});
