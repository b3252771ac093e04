/** Registers the search attributes that operations are found by. */

import type { ConnectionLike } from '@temporalio/client';

import { SEARCH_ATTRIBUTE } from '../contracts/workflows';

/** temporal.api.enums.v1.IndexedValueType */
const KEYWORD = 2;
const KEYWORD_LIST = 7;

/** Type of each attribute, as Temporal's API numbers them. */
export const SEARCH_ATTRIBUTE_TYPES: Readonly<Record<string, number>> = {
  [SEARCH_ATTRIBUTE.project]: KEYWORD,
  [SEARCH_ATTRIBUTE.microservice]: KEYWORD,
  [SEARCH_ATTRIBUTE.release]: KEYWORD,
  [SEARCH_ATTRIBUTE.nodes]: KEYWORD_LIST,
};

/** Adds those that the namespace does not have. */
export const ensureSearchAttributes = async (
  connection: Pick<ConnectionLike, 'operatorService'>,
  namespace: string,
): Promise<void> => {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  const missing = Object.entries(SEARCH_ATTRIBUTE_TYPES).filter(
    ([name]) => !(name in (customAttributes ?? {})),
  );
  if (missing.length === 0) return;
  await connection.operatorService.addSearchAttributes({
    namespace,
    searchAttributes: Object.fromEntries(missing),
  });
};
