// Releases as their users see them: the same bits for as long as a release lives, new ones when somebody asks, the old
// ones again after a rollback; said before it is done, and done by a build without the password.
import type { ReleaseView } from '../../openapi/schemas';
import type { MadeWebhookView } from '../../openapi/webhook-schemas';
import { webImage } from '../support/images';
import {
  apply,
  change,
  read,
  replicas,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';

const SERVICE = 'shop';

let bed: TestBed;
beforeAll(async () => {
  bed = await startTestBed();
}, 120_000);
afterAll(() => bed?.dispose(), 60_000);

/** Builds an image, and has the tag `live` lead to it. */
const publish = async (words: string): Promise<string> =>
  bed.registry.push({ ...(await webImage(words, { repository: SERVICE })), tag: 'live' });

const releaseOf = (number: number) =>
  read<ReleaseView>(bed.instance, `/v1/microservices/${SERVICE}/releases/${number}`);

scenario(
  'a tag that moves changes nothing until it is asked for, and a rollback brings the bits of then',
  () => bed,
  async ({ instance }) => {
    const image = await publish('v1');
    await apply(instance, webSpec(SERVICE, image, { scale: 1 }));
    await serving(instance, SERVICE, 1, `${SERVICE} v1`);
    const first = await releaseOf(1);
    expect(first).toMatchObject({
      by: { kind: 'password' },
      images: { [image]: expect.any(String) as string },
    });

    await publish('v2');
    await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 2 });
    await change(instance, 'POST', `/v1/microservices/${SERVICE}/restart`);
    await serving(instance, SERVICE, 2, `${SERVICE} v1`);
    expect((await replicas(instance, SERVICE)).map(({ containers }) => containers[0]?.image)).toEqual([
      image,
      image,
    ]);

    const dry = await instance.api('POST', `/v1/microservices/${SERVICE}/redeploy?dryRun=true`);
    expect(dry).toMatchObject({ status: 200, body: { dryRun: true, release: 2, unplaced: 0 } });

    const made = await instance.api('POST', `/v1/microservices/${SERVICE}/webhooks`, {
      body: { name: 'ci' },
    });
    const { id, secret } = made.body as MadeWebhookView;
    const hook = (body: object) =>
      instance.api('POST', `/v1/hooks/${id}?wait=60s`, {
        body,
        password: null,
        headers: { authorization: `Bearer ${secret}` },
        timeoutMs: 90_000,
      });
    expect((await hook({ redeploy: true })).status).toBe(200);
    await serving(instance, SERVICE, 2, `${SERVICE} v2`);
    const second = await releaseOf(2);
    expect(second).toMatchObject({ redeployOf: 1, by: { kind: 'webhook', name: 'ci' } });
    expect(second.images?.[image]).not.toBe(first.images?.[image]);
    expect(second.diff).toEqual([expect.stringMatching(/^image .*live: sha256:\w{12} → sha256:\w{12}$/)]);

    const failed = await hook({ tag: 'none' });
    expect(failed.status).toBe(422);
    expect(failed.body).toMatchObject({ operation: { state: 'rolled_back' } });
    await serving(instance, SERVICE, 2, `${SERVICE} v2`);

    await change(instance, 'POST', `/v1/microservices/${SERVICE}/rollback`, { toRelease: 1 });
    await serving(instance, SERVICE, 2, `${SERVICE} v1`);
    expect((await releaseOf(4)).images).toEqual(first.images);
  },
  180_000,
);
