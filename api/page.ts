/**
 * Pages of a list: what comes after a cursor, which is the name or id of an item.
 *
 * Invariant: a cursor is good as long as the order of the list can tell what comes after it, also when its item has
 * gone meanwhile (that of operations, their age, is not in the cursor: it ends with them); so nothing is shown twice, and nothing that was there all the time is passed over.
 */

export interface PageQuery {
  readonly limit?: string | undefined;
  readonly after?: string | undefined;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** The cursor of what follows, when there is more. */
  readonly next?: string;
}

/**
 * @param items in the order of the list
 * @param isAfter whether an item comes after the cursor in that order
 */
export const pageOf = <T>(
  items: readonly T[],
  { limit, after }: PageQuery,
  cursorOf: (item: T) => string,
  isAfter: (item: T, cursor: string) => boolean = (item, cursor) => cursorOf(item) > cursor,
): Page<T> => {
  const rest = after === undefined ? items : items.filter((item) => isAfter(item, after));
  const page = limit === undefined ? rest : rest.slice(0, Number(limit));
  const last = page.at(-1);
  return {
    items: page,
    ...(last === undefined || page.length === rest.length ? {} : { next: cursorOf(last) }),
  };
};
