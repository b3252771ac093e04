/** Deploy webhooks: what lets a build deploy one microservice, and nothing else. Pure. */

import { ContainerOsError } from './errors';
import type { MicroserviceKey } from './model';
import { hasDigest, repositoryOf } from './release-images';
import type { ReleaseSpec } from './spec/schema';

/** How it ended when somebody used it last. */
export interface WebhookUse {
  readonly atMs: number;
  /** `accepted`, `unchanged`, or the code of what it was refused with. */
  readonly result: string;
  readonly image?: string;
  readonly operation?: string;
}

export interface Webhook {
  readonly id: string;
  readonly microservice: MicroserviceKey;
  /** What its users know it by; one name stands once for each microservice. */
  readonly name: string;
  /** SHA-256 of the secret, which has 256 bits of chance. */
  readonly secretHash: string;
  /** Whether it may bring an image of another repository. */
  readonly anyRepository: boolean;
  readonly createdAtMs: number;
  readonly rotatedAtMs?: number;
  readonly lastUse?: WebhookUse;
}

/** What a use of it asks for. */
export interface HookRequest {
  readonly image?: string | undefined;
  readonly tag?: string | undefined;
  readonly digest?: string | undefined;
  /** Of a microservice with several. */
  readonly container?: string | undefined;
}

const invalid = (path: string, message: string): ContainerOsError =>
  new ContainerOsError('invalid', `The body is not valid: ${path.slice(1) || 'it'} ${message}.`, [
    { path, message },
  ]);

/**
 * @param spec of the release that is desired now
 * @returns the container that is meant, and the image that it is to run
 * @throws {ContainerOsError} `invalid`, or `forbidden` when the image is of another repository
 */
export const hookedImage = (
  { containers }: Pick<ReleaseSpec, 'containers'>,
  { anyRepository, name }: Pick<Webhook, 'anyRepository' | 'name'>,
  { image, tag, digest, container }: HookRequest,
): { readonly container: string; readonly image: string; readonly before: string } => {
  const names = containers.map((one) => one.name);
  const candidates =
    container !== undefined
      ? containers.filter((one) => one.name === container)
      : image !== undefined && containers.length > 1
        ? containers.filter((one) => repositoryOf(one.image) === repositoryOf(image))
        : containers;
  const [meant, ...others] = candidates;
  if (meant === undefined || others.length > 0) {
    throw invalid('/container', `must name the container that is meant, one of ${names.join(', ')}`);
  }
  const repository = repositoryOf(meant.image);
  if (image === undefined) {
    if (tag === undefined && digest === undefined) throw invalid('', 'must have "image", "tag" or "digest"');
    const wanted = `${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
    return { container: meant.name, image: wanted, before: meant.image };
  }
  if (tag !== undefined) throw invalid('/tag', 'must not be given with "image", which has a tag of its own');
  if (digest !== undefined && hasDigest(image)) throw invalid('/digest', 'stands in "image" already');
  if (!anyRepository && repositoryOf(image) !== repository) {
    throw new ContainerOsError(
      'forbidden',
      `The webhook ${name} may only bring images of ${repository}, not of ${repositoryOf(image)}. Make one with "anyRepository": true if it should.`,
    );
  }
  return {
    container: meant.name,
    image: digest === undefined ? image : `${image}@${digest}`,
    before: meant.image,
  };
};
