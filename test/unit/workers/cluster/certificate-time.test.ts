import { createAuthority } from '../../../../adapters/certificates/authority';
import { isDueForRenewal } from '../../../../workers/cluster/certificate-time';

const DAY_MS = 86_400_000;

test('a certificate is renewed when a third of its time is left', async () => {
  const nowMs = Date.UTC(2026, 0, 1);
  const { certificatePem } = await createAuthority({ clusterId: 'c', nowMs }); // from 30 days ago, for ten years
  expect(isDueForRenewal(certificatePem, nowMs)).toBe(false);
  expect(isDueForRenewal(certificatePem, nowMs + 2_420 * DAY_MS)).toBe(false);
  expect(isDueForRenewal(certificatePem, nowMs + 2_430 * DAY_MS)).toBe(true);
  expect(isDueForRenewal(certificatePem, nowMs + 9_999 * DAY_MS)).toBe(true);
});
