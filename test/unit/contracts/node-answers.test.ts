/** What is read of the answers of a node's worker. */

import * as fc from 'fast-check';

import type { NodeActivities } from '../../../contracts/activities';
import { readNodeAnswer, shortText } from '../../../contracts/node-answers';

const DIGEST = `sha256:${'0a'.repeat(32)}`;
const ACTIVITIES: readonly (keyof NodeActivities)[] = [
  'pullImages',
  'resolveImages',
  'pullAhead',
  'startReplicas',
  'stopReplicas',
];

const build = { image: 'web:1', available: ['arm64'], seenAtMs: 1 };

test.each<[keyof NodeActivities, readonly string[], unknown[]]>([
  [
    'pullImages',
    ['web:1', 'db:1'],
    [
      { kind: 'pulled', image: 'web:1', imageId: 'sha256:1' },
      { kind: 'present', image: 'db:1', imageId: '' },
    ],
  ],
  [
    'pullImages',
    ['web:1'],
    [{ kind: 'failed', image: 'web:1', code: 'image_not_found', reason: 'no', missingBuild: build }],
  ],
  ['resolveImages', ['web:1'], [{ kind: 'digest', image: 'web:1', digest: DIGEST }]],
  ['resolveImages', ['web:1'], [{ kind: 'local', image: 'web:1', imageId: DIGEST }]],
  [
    'resolveImages',
    ['web:1'],
    [{ kind: 'unknown', image: 'web:1', code: 'pull_failed', reason: 'no', mayPass: true }],
  ],
  ['pullAhead', ['web:1', 'db:1'], [{ kind: 'gave_way', image: 'web:1' }]],
  ['pullAhead', ['web:1'], [{ kind: 'failed', image: 'web:1', reason: 'no' }]],
  ['startReplicas', ['web-1'], [{ kind: 'ready', replicaId: 'web-1', ports: [] }]],
  [
    'startReplicas',
    ['web-1'],
    [{ kind: 'refused', replicaId: 'web-1', reason: 'no room', missingBuild: build }],
  ],
  [
    'startReplicas',
    ['web-1'],
    [{ kind: 'failed', replicaId: 'web-1', code: 'unhealthy', reason: 'no', logTail: ['a'] }],
  ],
  [
    'stopReplicas',
    ['web-2', 'web-1'],
    [
      { replicaId: 'web-1', existed: true, behind: ['a'] },
      { replicaId: 'web-2', existed: false },
    ],
  ],
  ['startReplicas', [], []],
])('of what is in order nothing is changed: %s of %j', (activity, asked, answer) => {
  expect(readNodeAnswer(activity, asked, answer)).toEqual({ outcomes: answer });
});

const started = { kind: 'ready', replicaId: 'web-1', ports: [] };
const failed = { kind: 'failed', replicaId: 'web-1', code: 'unhealthy', reason: 'no', logTail: [] };

test.each<[unknown, string]>([
  [undefined, 'it is empty'],
  [null, 'it is not a list'],
  [{}, 'it is not a list'],
  ['ready', 'it is not a list'],
  [[], 'it says nothing about web-1'],
  [[null], '/0 is not an object'],
  [[[started]], '/0 is not an object'],
  [[{ replicaId: 'web-1' }], '/0/kind is missing'],
  [[{ ...started, kind: 'done' }], '/0/kind is none that there is'],
  [[{ ...started, kind: {} }], '/0/kind is none that there is'],
  [[{ ...started, replicaId: 1 }], '/0/replicaId is not text'],
  [[{ ...started, replicaId: 'web-2' }], '/0 is about what it was not asked for'],
  [[started, { ...started, replicaId: '__proto__' }], '/1 is about what it was not asked for'],
  [[{ ...failed, reason: { toString: 'no' } }], '/0/reason is not text'],
  [[{ ...failed, code: 500 }], '/0/code is not text'],
  [[{ ...failed, logTail: 'no' }], '/0/logTail is not a list'],
  [[{ ...failed, logTail: ['a', 1] }], '/0/logTail/1 is not text'],
  [
    [{ kind: 'refused', replicaId: 'web-1', reason: 'no', missingBuild: { image: 'web:1' } }],
    '/0/missingBuild/available is missing',
  ],
])('%j says nothing of a start: %s', (answer, nonsense) => {
  expect(readNodeAnswer('startReplicas', ['web-1'], answer)).toEqual({ nonsense });
});

test.each<[keyof NodeActivities, unknown, string]>([
  ['resolveImages', { kind: 'digest', image: 'a', digest: 'latest' }, '/0/digest is no digest'],
  [
    'resolveImages',
    { kind: 'digest', image: 'a', digest: `${DIGEST} --privileged` },
    '/0/digest is no digest',
  ],
  ['resolveImages', { kind: 'digest', image: 'a', digest: `${DIGEST}\n` }, '/0/digest is no digest'],
  ['resolveImages', { kind: 'digest', image: 'a', digest: DIGEST.toUpperCase() }, '/0/digest is no digest'],
  ['resolveImages', { kind: 'digest', image: 'a', digest: [DIGEST] }, '/0/digest is not text'],
  ['resolveImages', { kind: 'local', image: 'a', imageId: 'a' }, '/0/imageId is no digest'],
  ['resolveImages', { kind: 'unknown', image: 'a', code: 'internal', reason: '' }, '/0/mayPass is missing'],
  ['pullImages', { kind: 'pulled', image: 'a' }, '/0/imageId is missing'],
  ['pullAhead', { kind: 'failed', image: 'a' }, '/0/reason is missing'],
  ['stopReplicas', { replicaId: 'a' }, '/0/existed is missing'],
  ['stopReplicas', { replicaId: 'a', existed: true, behind: 'b' }, '/0/behind is not a list'],
])('%s: %j is nonsense', (activity, item, nonsense) => {
  expect(readNodeAnswer(activity, ['a'], [item])).toEqual({ nonsense });
});

test('what is too long for a document is cut, what nobody asks for is left out, an unknown code is a defect', () => {
  const long = 'x'.repeat(1_000_000);
  const answer = [
    {
      ...failed,
      ...{ code: 'a_new_one', reason: long, logTail: Array(10_000).fill(long), ports: long, secret: long },
    },
  ];
  const read = readNodeAnswer('startReplicas', ['web-1'], answer);
  expect(read).toMatchObject({ outcomes: [{ kind: 'failed', code: 'internal', reason: shortText(long) }] });
  expect(JSON.stringify(read).length).toBeLessThan(60_000);
  const stopped = readNodeAnswer(
    'stopReplicas',
    ['a'],
    [{ replicaId: 'a', existed: true, behind: Array(10_000).fill(long) }],
  );
  expect(JSON.stringify(stopped).length).toBeLessThan(60_000);
});

const SUBJECTS = ['a', 'b'];

const anyItem = fc.oneof(
  fc.jsonValue(),
  fc.record(
    {
      kind: fc.oneof(
        fc.constantFrom('pulled', 'present', 'failed', 'digest', 'local', 'unknown', 'ready', 'refused'),
        fc.jsonValue(),
      ),
      image: fc.oneof(fc.constantFrom(...SUBJECTS), fc.jsonValue()),
      replicaId: fc.oneof(fc.constantFrom(...SUBJECTS), fc.jsonValue()),
      imageId: fc.oneof(fc.constant(DIGEST), fc.jsonValue()),
      digest: fc.oneof(fc.constant(DIGEST), fc.jsonValue()),
      code: fc.oneof(fc.constantFrom('internal', 'unhealthy'), fc.jsonValue()),
      reason: fc.oneof(fc.string(), fc.jsonValue()),
      logTail: fc.oneof(fc.array(fc.string()), fc.jsonValue()),
      behind: fc.oneof(fc.array(fc.string()), fc.jsonValue()),
      existed: fc.oneof(fc.boolean(), fc.jsonValue()),
      mayPass: fc.oneof(fc.boolean(), fc.jsonValue()),
      missingBuild: fc.oneof(fc.constant(build), fc.jsonValue()),
    },
    { requiredKeys: [] },
  ),
);

test('whatever is answered, it is read or it is nonsense, and what is read is in order', () => {
  let read = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...ACTIVITIES),
      fc.oneof(fc.array(anyItem, { maxLength: 3 }), fc.jsonValue()),
      (activity, value) => {
        const subjects = Array.isArray(value)
          ? SUBJECTS.filter((one) => JSON.stringify(value).includes(`"${one}"`))
          : SUBJECTS;
        const answer = readNodeAnswer(activity, subjects, value);
        if ('nonsense' in answer) return answer.nonsense.length > 0;
        read += answer.outcomes.length;
        expect(readNodeAnswer(activity, subjects, answer.outcomes)).toEqual(answer);
        for (const outcome of answer.outcomes) {
          for (const field of ['reason', 'code', 'image', 'replicaId', 'digest', 'imageId'] as const) {
            if (field in outcome) {
              expect(typeof (outcome as unknown as Record<string, unknown>)[field]).toBe('string');
            }
          }
        }
        return true;
      },
    ),
    { numRuns: 2_000 },
  );
  expect(read).toBeGreaterThan(0);
});
