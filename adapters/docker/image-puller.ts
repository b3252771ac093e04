/**
 * Pulls images. Each is pulled once however many ask at the same time.
 *
 * Invariants: what repeating cannot mend is an outcome, what it can is thrown; a pull without progress is given up;
 * a pull goes on as long as anyone who asked for it waits; what is pulled ahead gives way to what is needed now.
 */

import type Docker from 'dockerode';
import type { ImageInspectInfo } from 'dockerode';

import type { ImageResolution, PullAheadOutcome, PullOutcome } from '../../contracts/activities';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import { dockerMessage, dockerStatus, isEngineAway } from './docker-error';
import type { MissingBuild } from '../../domain/model';
import { engineReference, hasDigest, imageInWords, repositoryOf, withTag } from '../../domain/release-images';
import { inspectImage, readDigest, readPlatforms } from './engine-info';

export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
  readonly serveraddress: string;
}

export interface ImagePuller {
  /** @throws {ContainerOsError} `pull_failed` when it may succeed later, `unavailable` when the engine is away */
  pull(
    image: string,
    policy: 'always' | 'missing' | 'never',
    signal: AbortSignal,
    onProgress: (words: string) => void,
  ): Promise<PullOutcome>;
  /**
   * Finds out which bits an image is, without pulling it: what its policy would have a node run, so that the registry
   * is asked unless the engine has it and may run it as it is. Where the registry does not answer, what the engine has
   * is better than nothing.
   *
   * @param asksRegistry whether the registry decides also where the engine has it
   * @throws {ContainerOsError} `unavailable` when the engine is away
   */
  resolve(
    image: string,
    policy: 'always' | 'missing' | 'never',
    asksRegistry: boolean,
    signal: AbortSignal,
  ): Promise<ImageResolution>;
  /**
   * Gets an image that nobody waits for, unless something is pulled that is needed now, and only until then.
   * Whatever keeps it from that is an outcome.
   */
  pullAhead(
    image: string,
    signal: AbortSignal,
    onProgress: (words: string) => void,
  ): Promise<PullAheadOutcome>;
}

interface PullProgress {
  readonly id?: string;
  readonly status?: string;
  readonly error?: string;
  readonly errorDetail?: { readonly message?: string };
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

interface Flight {
  readonly abort: AbortController;
  readonly done: Promise<void>;
  readonly watchers: Set<(words: string) => void>;
  waiting: number;
}

const STALL_MS = 60_000;

export const createImagePuller = (deps: {
  readonly docker: Docker;
  /** What is known of images for other architectures. */
  readonly builds: {
    note(image: string, available: readonly string[]): MissingBuild;
    forget(image: string): void;
  };
  /** Credentials for the registry of an image; undefined: none. */
  readonly authFor: (image: string) => Promise<RegistryCredentials | undefined>;
  readonly stallMs?: number;
}): ImagePuller => {
  const { docker, builds, authFor, stallMs = STALL_MS } = deps;
  const flights = new Map<string, Flight>();
  /** How many wait for images that are needed now. */
  let needed = 0;
  /** What is pulled ahead, by its image: how it is told to give way. */
  const ahead = new Map<string, AbortController>();

  const imageId = async (image: string): Promise<string | undefined> =>
    (await inspectImage(docker, image))?.Id;

  const fly = async (flight: Pick<Flight, 'abort' | 'watchers'>, image: string): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    const watchdog = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => flight.abort.abort(new Stalled(stallMs)), stallMs);
    };
    const { signal } = flight.abort;
    const progress = createProgressWords();
    watchdog();
    try {
      const auth = await authFor(image);
      const stream = await docker.createImage({
        fromImage: engineReference(withTag(image)),
        abortSignal: signal,
        ...(auth === undefined ? {} : { authconfig: auth }),
      });
      await readProgress(stream, signal, (event) => {
        watchdog();
        const message = event.errorDetail?.message ?? event.error;
        if (message !== undefined) throw new PullError(message);
        const words = progress(event);
        for (const watcher of flight.watchers) watcher(words);
      });
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  };

  const join = async (
    image: string,
    signal: AbortSignal,
    onProgress: (words: string) => void,
  ): Promise<void> => {
    let flight = flights.get(image);
    if (flight === undefined) {
      const parts = { abort: new AbortController(), watchers: new Set<(words: string) => void>() };
      flight = { ...parts, waiting: 0, done: fly(parts, image).finally(() => flights.delete(image)) };
      flight.done.catch(() => undefined); // everyone who waits gets it; nobody may be left waiting
      flights.set(image, flight);
    }
    const joined = flight;
    joined.waiting += 1;
    joined.watchers.add(onProgress);
    try {
      await untilAborted(joined.done, signal);
    } finally {
      joined.waiting -= 1;
      joined.watchers.delete(onProgress);
      if (joined.waiting === 0) {
        flights.delete(image); // whoever comes now begins anew rather than joining what is being given up
        joined.abort.abort(new Error('nobody waits for the pull any more'));
      }
    }
  };

  /** Only asked when a pull has failed for it, and only for the words: whatever keeps it from an answer is none. */
  const noteMissingBuild = async (image: string, signal: AbortSignal): Promise<MissingBuild> => {
    const available = await readPlatforms(
      docker,
      engineReference(withTag(image)),
      await authFor(image),
      signal,
    ).catch(() => []);
    signal.throwIfAborted();
    return builds.note(image, available);
  };

  /** Pulls what is needed now. Of what is pulled ahead, only the same image goes on: both wait for it. */
  const joinNow: typeof join = async (image, signal, onProgress) => {
    needed += 1;
    for (const [other, controller] of ahead) if (other !== image) controller.abort(new GaveWay());
    try {
      await join(image, signal, onProgress);
    } finally {
      needed -= 1;
    }
  };

  return {
    resolve: async (image, policy, asksRegistry, signal) => {
      const local = await inspectImage(docker, image);
      const mayRunLocal = policy === 'never' || (policy === 'missing' && !asksRegistry);
      if (local !== undefined && mayRunLocal) return resolutionOf(image, local);
      if (policy === 'never') {
        const reason = `the image ${image} is not on the node, and its pull policy is never`;
        return { kind: 'unknown', image, code: 'image_not_found', reason, mayPass: false };
      }
      try {
        const digest = await readDigest(docker, withTag(image), await authFor(image), signal);
        return { kind: 'digest', image, digest };
      } catch (error) {
        signal.throwIfAborted();
        if (local !== undefined) return resolutionOf(image, local);
        const { code, reason, isFinal } = classifyPullFailure(error);
        return {
          kind: 'unknown',
          image,
          code,
          reason: isFinal ? `${image}: ${reason}` : `The image ${image} could not be pulled: ${reason}.`,
          mayPass: !isFinal,
        };
      }
    },
    pullAhead: async (image, signal, onProgress) => {
      if (needed > 0 || ahead.has(image)) return { kind: 'gave_way', image };
      const controller = new AbortController();
      ahead.set(image, controller);
      try {
        if ((await imageId(image)) !== undefined) return { kind: 'present', image };
        await join(image, AbortSignal.any([signal, controller.signal]), onProgress);
        builds.forget(image);
        return { kind: 'pulled', image };
      } catch (error) {
        signal.throwIfAborted();
        if (controller.signal.aborted) return { kind: 'gave_way', image };
        const { reason, isForAnother } = classifyPullFailure(error);
        if (isForAnother) await noteMissingBuild(image, signal);
        return { kind: 'failed', image, reason };
      } finally {
        ahead.delete(image);
      }
    },
    pull: async (image, policy, signal, onProgress) => {
      // What a digest names is the same everywhere and for ever.
      if (policy !== 'always' || hasDigest(image)) {
        const id = await imageId(image);
        if (id !== undefined) return { kind: 'present', image, imageId: id };
        if (policy === 'never') {
          const reason = `the image ${image} is not on the node, and its pull policy is never`;
          return { kind: 'failed', image, code: 'image_not_found', reason };
        }
      }
      try {
        await joinNow(image, signal, onProgress);
      } catch (error) {
        signal.throwIfAborted();
        const failure = classifyPullFailure(error);
        if (failure.isFinal) {
          const isUnknown = failure.code === 'image_not_found';
          const local = isUnknown && policy === 'always' ? await imageId(image) : undefined;
          if (local !== undefined) return { kind: 'present', image, imageId: local };
          const reason = `${imageInWords(image)}: ${failure.reason}`;
          return {
            ...{ kind: 'failed', image, code: failure.code, reason },
            ...(failure.isForAnother ? { missingBuild: await noteMissingBuild(image, signal) } : {}),
          };
        }
        throw new ContainerOsError(
          failure.code,
          `The image ${imageInWords(image)} could not be pulled: ${failure.reason}.`,
          [],
          {
            cause: error,
          },
        );
      }
      builds.forget(image);
      const id = await imageId(image);
      if (id !== undefined) return { kind: 'pulled', image, imageId: id };
      throw new ContainerOsError('pull_failed', `The image ${image} was removed just after it was pulled.`);
    },
  };
};

/** The digest under which the engine got an image from the registry that its name says, else its id. */
const resolutionOf = (image: string, { Id, RepoDigests }: ImageInspectInfo): ImageResolution => {
  const repository = repositoryOf(image).replace(/^docker\.io\/(?:library\/)?/, '');
  const found = (RepoDigests ?? []).find((one) => repositoryOf(one) === repository);
  const digest = found?.slice(found.indexOf('@') + 1);
  return digest === undefined ? { kind: 'local', image, imageId: Id } : { kind: 'digest', image, digest };
};

class GaveWay extends Error {
  constructor() {
    super('an image that is needed now is pulled first');
  }
}

class Stalled extends Error {
  constructor(stallMs: number) {
    super(`there was no progress for ${stallMs / 1_000} s`);
  }
}

/** What the registry or the engine said in the course of a pull. */
class PullError extends Error {}

interface PullFailure {
  readonly code: ErrorCode;
  readonly reason: string;
  /** Whether the same pull cannot succeed without somebody doing something. */
  readonly isFinal: boolean;
  /** Whether there is such an image, but for other processor architectures. */
  readonly isForAnother?: true;
}

/** Docker tells failures of a pull by their words only. */
export const classifyPullFailure = (error: unknown): PullFailure => {
  const message = dockerMessage(error);
  const final = (code: ErrorCode, reason: string): PullFailure => ({ code, reason, isFinal: true });
  if (/no space left on device/i.test(message)) return final('no_capacity', 'the disk of the node is full');
  if (/no matching manifest for|no match for platform in manifest/i.test(message)) {
    const reason = 'the image is not made for the processor architecture of the node';
    return { ...final('image_not_found', reason), isForAnother: true };
  }
  if (/manifest unknown|manifest for .* not found|name unknown|not found: manifest/i.test(message)) {
    return final('image_not_found', 'the registry does not have it');
  }
  if (
    /pull access denied|unauthorized|authentication required|access .*denied|no basic auth/i.test(message)
  ) {
    return final('image_not_found', 'the registry does not have it, or asks for a password');
  }
  if (/invalid reference format|invalid repository name/i.test(message)) {
    return final('invalid', 'this is no image reference');
  }
  if (/server gave HTTP response to HTTPS client|x509:|certificate/i.test(message)) {
    return final('pull_failed', message);
  }
  if (isEngineAway(error)) {
    return { code: 'unavailable', reason: `the Docker Engine does not answer (${message})`, isFinal: false };
  }
  if (dockerStatus(error) === 404) return final('image_not_found', message);
  return { code: 'pull_failed', reason: message.replace(/\.$/, ''), isFinal: false };
};

/** "3 of 5 layers, 12 of 80 MB". */
const createProgressWords = (): ((event: PullProgress) => string) => {
  const layers = new Map<string, { current: number; total: number; done: boolean }>();
  return ({ id, status = '', progressDetail }) => {
    if (id !== undefined && /^[0-9a-f]{12}$/.test(id)) {
      const layer = layers.get(id) ?? { current: 0, total: 0, done: false };
      if (status === 'Downloading') {
        layer.current = progressDetail?.current ?? layer.current;
        layer.total = progressDetail?.total ?? layer.total;
      }
      if (status === 'Download complete') layer.current = layer.total;
      if (status === 'Pull complete' || status === 'Already exists') layer.done = true;
      layers.set(id, layer);
    }
    if (layers.size === 0) return status;
    const all = [...layers.values()];
    const megabytes = (pick: 'current' | 'total') =>
      Math.round(all.reduce((sum, layer) => sum + layer[pick], 0) / 1e6);
    const done = all.filter((layer) => layer.done).length;
    return `${done} of ${layers.size} layers, ${megabytes('current')} of ${megabytes('total')} MB`;
  };
};

const readProgress = (
  stream: NodeJS.ReadableStream,
  signal: AbortSignal,
  onEvent: (event: PullProgress) => void,
): Promise<void> =>
  new Promise((resolve, reject) => {
    let rest = '';
    const end = (error?: Error): void => {
      signal.removeEventListener('abort', onAbort);
      (stream as Partial<{ destroy(): void }>).destroy?.();
      if (error === undefined) resolve();
      else reject(error);
    };
    const onAbort = (): void => end(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      try {
        for (const line of lines) if (line.trim() !== '') onEvent(JSON.parse(line) as PullProgress);
      } catch (error) {
        end(error as Error);
      }
    });
    stream.once('end', () => end());
    stream.once('error', end);
    stream.once('close', () => end(new Error('the engine closed the connection')));
  });

const untilAborted = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
