import { addReservations, whyRefused, type Room } from '../../../../workers/node/admission';
import {
  DISK_REASON,
  healthReasons,
  isMaterialChange,
  MEMORY_REASON,
} from '../../../../workers/node/node-health';
import { buildNode, GB, MB } from '../../../support/builders';

const room: Room = {
  capacity: { cpus: 4, memoryBytes: 8 * GB, diskBytes: 100 * GB },
  memoryAvailableBytes: 4 * GB,
  diskFreeBytes: 50 * GB,
  reserved: { cpusReserved: 3, memoryReservedBytes: 7 * GB },
};

test.each([
  [{ cpusReserved: 1, memoryReservedBytes: GB }, {}, undefined],
  [{ cpusReserved: 1.5, memoryReservedBytes: 0 }, {}, 'needs 1.5 CPUs, 1 are free'],
  [{ cpusReserved: 0, memoryReservedBytes: 2 * GB }, {}, 'needs 2000 MB of memory, 1000 MB is free'],
  [
    { cpusReserved: 0, memoryReservedBytes: 0 },
    { memoryAvailableBytes: 10 * MB },
    'only 10 MB of memory is available',
  ],
  [{ cpusReserved: 0, memoryReservedBytes: 0 }, { diskFreeBytes: 10 * MB }, 'only 10 MB of disk is free'],
  // What reserves nothing is refused for want of memory or disk only.
  [
    { cpusReserved: 0, memoryReservedBytes: 0 },
    { reserved: { cpusReserved: 9, memoryReservedBytes: 9 * GB } },
    undefined,
  ],
])('admission of %j with %j', (wanted, changed, expected) => {
  expect(whyRefused(wanted, { ...room, ...changed })).toBe(expected);
});

test('reservations add up', () => {
  expect(
    addReservations([
      { cpusReserved: 1, memoryReservedBytes: 2 },
      { cpusReserved: 0.5, memoryReservedBytes: 3 },
    ]),
  ).toEqual({
    cpusReserved: 1.5,
    memoryReservedBytes: 5,
  });
});

test('a node on the edge does not go back and forth', () => {
  const at = (share: number) =>
    buildNode('n', { memoryAvailableBytes: share * 8 * GB, diskFreeBytes: 50 * GB });
  expect(healthReasons(at(0.06), [])).toEqual([]);
  expect(healthReasons(at(0.04), [])).toEqual([MEMORY_REASON]);
  expect(healthReasons(at(0.06), [MEMORY_REASON])).toEqual([MEMORY_REASON]);
  expect(healthReasons(at(0.09), [MEMORY_REASON])).toEqual([]);
  expect(healthReasons(buildNode('n', { diskFreeBytes: GB }), [])).toEqual([DISK_REASON]);
});

test.each([
  [{}, false],
  [{ updatedAtMs: 5 }, false],
  [{ cpuPercent: 15 }, false],
  [{ cpuPercent: 60 }, true],
  [{ memoryAvailableBytes: 5.9 * GB }, false],
  [{ memoryAvailableBytes: 5 * GB }, true],
  [{ diskFreeBytes: 40 * GB }, true],
  [{ images: ['other:1'] }, true],
  [{ health: 'degraded' as const, reasons: ['x'] }, true],
])('%j is worth telling: %s', (changed, expected) => {
  expect(isMaterialChange(buildNode('n'), buildNode('n', changed))).toBe(expected);
});
