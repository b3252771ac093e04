/**
 * A binary heap: the best of many items, when only the best one ever changes.
 *
 * Invariant: `isBefore` is a total order; an item other than the first must not change while it is in the heap.
 */

export interface Heap<T> {
  readonly first: () => T | undefined;
  readonly removeFirst: () => void;
  /** Has to be called after the first item has become less good. */
  readonly demoteFirst: () => void;
}

export const createHeap = <T>(items: readonly T[], isBefore: (left: T, right: T) => boolean): Heap<T> => {
  const heap = [...items];

  const sink = (start: number): void => {
    let index = start;
    for (;;) {
      const left = 2 * index + 1;
      let best = index;
      if (left < heap.length && isBefore(heap[left] as T, heap[best] as T)) best = left;
      if (left + 1 < heap.length && isBefore(heap[left + 1] as T, heap[best] as T)) best = left + 1;
      if (best === index) return;
      const item = heap[index] as T;
      heap[index] = heap[best] as T;
      heap[best] = item;
      index = best;
    }
  };

  for (let index = Math.floor(heap.length / 2) - 1; index >= 0; index -= 1) sink(index);
  return {
    first: () => heap[0],
    removeFirst: () => {
      const last = heap.pop();
      if (heap.length > 0) heap[0] = last as T;
      sink(0);
    },
    demoteFirst: () => sink(0),
  };
};
