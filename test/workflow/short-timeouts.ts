/** Time limits of contracts/timeouts, shortened where a test would have to wait for them. */

import {
  AHEAD as REAL_AHEAD,
  CERTIFICATE as REAL_CERTIFICATE,
  RETRY as REAL_RETRY,
  TIMEOUT as REAL_TIMEOUT,
} from '../../contracts/timeouts';

export const TIMEOUT = {
  ...REAL_TIMEOUT,
  nodeScheduleToStartMs: 1_000,
  neighbourPatienceMs: 3_000,
  reconcileEveryMs: 2_500,
  rescheduleBackoffMs: 200,
  rescheduleMaxBackoffMs: 1_600,
} as const;

export const AHEAD = REAL_AHEAD;

export const RETRY = {
  ...REAL_RETRY,
  local: { ...REAL_RETRY.local, maximumIntervalMs: 200 },
} as const;

export const CERTIFICATE = {
  ...REAL_CERTIFICATE,
  heartbeatMs: 1_000,
  retryFirstIntervalMs: 50,
  retryMaxIntervalMs: 200,
} as const;
