/**
 * JSON texts of microservices, made once for each of their versions: with hundreds of them, making the texts would
 * cost a GET of the list more than everything else.
 *
 * Invariant: a text is only given out while its version is the microservice's version.
 */

import { scaleOf } from '../domain/exclusive';
import type { Microservice } from '../domain/model';
import { withMissingBuilds } from '../domain/placement/builds';
import { daemonScale } from '../domain/placement/daemon';
import { withDigests } from '../domain/release-images';

import type { IngressAddresses } from './hostname-urls';
import type { Page } from './page';
import { TOPIC } from './read-documents';
import type { ReadModel } from './read-model';
import { microserviceView, type WebUiLink } from './views';

export interface MicroserviceJson {
  of(microservice: Microservice): string;
  /** The JSON of a list with its version. */
  list(page: Page<Microservice>, version: number): string;
  /** That of all microservices, as bytes that are made once for each version of the list. */
  all(version: number): Buffer;
}

export const createMicroserviceJson = (
  readModel: ReadModel,
  webUi: WebUiLink,
  addresses: IngressAddresses,
): MicroserviceJson => {
  const texts = new WeakMap<Microservice, { readonly version: number; readonly text: string }>();

  /** With what stands in the way of its change, which only the events say. */
  const told = (microservice: Microservice): Microservice =>
    microservice.state !== 'changing' || microservice.message !== ''
      ? microservice
      : { ...microservice, message: readModel.troubleOf(microservice.operation) ?? '' };

  /** With the scale that the nodes give it, if it is a daemon, and at most one where it is exclusive. */
  const counted = (microservice: Microservice): Microservice => {
    const { scale } = microservice;
    const release = withDigests(microservice.release);
    if (release.spec.daemon === true) {
      return {
        ...microservice,
        scale: daemonScale(release, withMissingBuilds(readModel.snapshot(microservice), release)),
      };
    }
    const scaled = scaleOf(release.spec, scale);
    return scaled === scale ? microservice : { ...microservice, scale: scaled };
  };

  const of = (microservice: Microservice): string => {
    const version = readModel.versions.of(TOPIC.microservice(microservice));
    const known = texts.get(microservice);
    if (known?.version === version) return known.text;
    const view = microserviceView(counted(told(microservice)), readModel.replicasOf(microservice), {
      webUi,
      addresses,
      split: readModel.splitOf(microservice),
      nodes: readModel.nodes().filter(({ health }) => health !== 'lost'),
    });
    const text = JSON.stringify(view);
    texts.set(microservice, { version, text });
    return text;
  };

  const list = ({ items, next }: Page<Microservice>, version: number): string =>
    `{"index":${version},"items":[${items.map(of).join(',')}]${next === undefined ? '' : `,"next":${JSON.stringify(next)}`}}`;

  let latest: { readonly version: number; readonly bytes: Buffer } | undefined;

  return {
    of,
    list,
    all: (version) => {
      if (latest?.version !== version) {
        latest = { version, bytes: Buffer.from(list({ items: readModel.microservices() }, version)) };
      }
      return latest.bytes;
    },
  };
};
