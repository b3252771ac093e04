/**
 * What entities are still to be told: one word for each, whatever has happened meanwhile.
 *
 * Invariant: nothing that was said is lost: of what a word says of room and of lost nodes, a later one adds to it.
 */

import { microserviceId, type MicroserviceKey } from '../domain/model';

/** What an entity is to be told. */
export interface Word {
  readonly key: MicroserviceKey;
  readonly reason: string;
  readonly hasRoom: boolean;
  readonly lostNodes: readonly string[];
}

export interface EntityWords {
  tell(
    key: MicroserviceKey,
    reason: string,
    about?: { readonly hasRoom?: boolean; readonly lostNodes?: readonly string[] },
  ): void;
  /** It could not be told: again, with the reason that is newest by now. */
  tellAgain(word: Word): void;
  isEmpty(): boolean;
  /** Takes some of them out: whoever takes them tells them. */
  take(): readonly Word[];
  /** Wakes who waits, though there is no word. */
  wake(): void;
  /** Resolves when there is a word, or when somebody wakes who waits. One waits at a time. */
  waiting(): Promise<void>;
}

const TAKEN_AT_ONCE = 16;

export const createEntityWords = (): EntityWords => {
  const words = new Map<string, Word>();
  let wake: () => void = () => undefined;
  const tell: EntityWords['tell'] = (key, reason, about = {}) => {
    const id = microserviceId(key);
    const before = words.get(id);
    words.set(id, {
      key: { project: key.project, name: key.name },
      reason,
      hasRoom: about.hasRoom === true || before?.hasRoom === true,
      lostNodes: [...new Set([...(before?.lostNodes ?? []), ...(about.lostNodes ?? [])])],
    });
    wake();
  };
  return {
    tell,
    tellAgain: ({ key, reason, hasRoom, lostNodes }) =>
      tell(key, words.get(microserviceId(key))?.reason ?? reason, { hasRoom, lostNodes }),
    isEmpty: () => words.size === 0,
    take: () => {
      const taken = [...words.values()].slice(0, TAKEN_AT_ONCE);
      for (const { key } of taken) words.delete(microserviceId(key));
      return taken;
    },
    wake: () => wake(),
    waiting: () =>
      new Promise<void>((resolve) => {
        wake = resolve;
        if (words.size > 0) resolve();
      }),
  };
};
