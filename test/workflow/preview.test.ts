/** What a change would do, told by the entity without doing it. */

import { KV_PREFIX } from '../../contracts/kv';
import type { Preview } from '../../contracts/workflows';
import { buildReleaseSpec } from '../support/builders';

import { createSubject, specOf } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

test('a preview is what the change then does, and changes nothing', async () => {
  const { cluster, changes, name: project } = use.project;
  const subject = createSubject(use.project);
  const key = { project, name: subject.name };
  const apply = (image: string) => ({ name: subject.name, release: buildReleaseSpec(specOf(image)) });

  const first = await changes.preview(key, { kind: 'apply', change: apply('shop:1') });
  expect(first).toMatchObject({
    kind: 'possible',
    operation: 'deploy',
    created: true,
    desired: { scale: 1 },
  });
  expect(subject.document()).toBeUndefined();
  expect(await changes.preview(key, { kind: 'remove', change: {} })).toMatchObject({ code: 'not_found' });

  await subject.applied({ image: 'shop:1', scale: 2 });
  await subject.applied({ image: 'shop:2' });
  await subject.steady(2, 2);
  const before = JSON.stringify(cluster.store.peek(KV_PREFIX.microservices));
  const preview = (request: Parameters<typeof changes.preview>[1]): Promise<Preview> =>
    changes.preview(key, request);

  expect(await preview({ kind: 'apply', change: apply('shop:3') })).toMatchObject({
    operation: 'deploy',
    created: false,
    before: { number: 2 },
    desired: { scale: 2, release: { number: 3 } },
  });
  expect(await preview({ kind: 'apply', change: { ...apply('shop:2'), scale: 5 } })).toMatchObject({
    operation: 'scale',
    desired: { scale: 5, release: { number: 2 } },
  });
  expect(await preview({ kind: 'scale', change: { scale: 0 } })).toMatchObject({ desired: { scale: 0 } });
  expect(await preview({ kind: 'rollback', change: {} })).toMatchObject({
    operation: 'rollback',
    desired: { release: { number: 3, rollbackOf: 1, images: cluster.releases(subject.name)[0]?.images } },
  });
  expect(await preview({ kind: 'redeploy', change: {} })).toMatchObject({
    desired: { release: { number: 3, redeployOf: 2 } },
  });
  expect(await preview({ kind: 'rollback', change: { toRelease: 9 } })).toMatchObject({
    kind: 'refused',
    code: 'not_found',
  });
  expect(await preview({ kind: 'restart', change: { ifGeneration: 1 } })).toMatchObject({
    kind: 'refused',
    code: 'precondition_failed',
  });
  expect(JSON.stringify(cluster.store.peek(KV_PREFIX.microservices))).toBe(before);
  expect(cluster.releases(subject.name)).toHaveLength(2);

  await subject.remove();
  await subject.gone();
  expect(await preview({ kind: 'restart', change: {} })).toMatchObject({ code: 'not_found' });
  expect(await preview({ kind: 'apply', change: apply('shop:1') })).toMatchObject({ created: true });
});

test('a preview tells what a release would take over from in stages, and that a rollback is rolled out', async () => {
  const { changes, name: project } = use.project;
  const subject = createSubject(use.project);
  const key = { project, name: subject.name };
  const update = { strategy: 'blue-green' } as const;
  const spec = (image: string) => ({ ...specOf(image), update });
  await subject.applied({ spec: spec('shop:1'), scale: 2 });
  await subject.applied({ image: 'shop:2' });
  await subject.steady(2, 2);
  const change = { name: subject.name, release: buildReleaseSpec(spec('shop:3')) };
  expect(await changes.preview(key, { kind: 'apply', change })).toMatchObject({
    takesOverFrom: { scale: 2, release: { number: 2 } },
  });
  expect(await changes.preview(key, { kind: 'rollback', change: {} })).not.toHaveProperty('takesOverFrom');
});
