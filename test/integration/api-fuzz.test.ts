/** The API over entities in memory, fuzzed from its OpenAPI document: no 5xx, nothing that the document does not say. */

import { createHostnameAuthority } from '../../adapters/certificates/hostname-authority';
import { authorityKvKey } from '../../contracts/kv';
import { fuzz } from '../fuzz/schemathesis';
import { createFakeEntities } from '../fuzz/fake-entities';
import { PASSWORD, nodeDocument, startApi } from '../unit/api/api-under-test';

test('every answer is as described', async () => {
  // Wrong passwords are part of it, thousands of them: time goes by quickly here.
  let nowMs = Date.now();
  const api = await startApi({ changes: createFakeEntities, nowMs: () => (nowMs += 1_000) });
  try {
    api.kv.put(nodeDocument('node-1'));
    // As the control plane makes it when it starts.
    const { certificatePem } = await createHostnameAuthority({ clusterId: 'c1', nowMs: Date.now() });
    const value = { name: 'hostnames', certificatePem, sealedKey: 'sealed', createdAtMs: 0 };
    await api.store.transact([{ kind: 'set', key: authorityKvKey('hostnames'), value }]);
    const { passed, output } = await fuzz({
      url: api.url,
      password: PASSWORD,
      maxExamples: 10,
      timeoutMs: 280_000,
    });
    if (!passed) throw new Error(output);
    const defects = api.logged.filter((line) => line.includes('a request met a defect'));
    expect(defects).toEqual([]);
  } finally {
    await api.close();
  }
}, 300_000);
