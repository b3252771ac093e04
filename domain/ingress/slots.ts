/**
 * Slots: the fixed places of a route in the proxy's configuration, each of which leads to one endpoint. Pure.
 *
 * The proxy reads where a slot leads with each request, so endpoints come and go without a new configuration: the
 * slots that an endpoint leaves are given to the others. With twice as many slots as endpoints at least, no endpoint
 * has much more of them than another (docs/decisions/ingress.md).
 *
 * Invariants: every slot leads somewhere when there is an endpoint at all, and every endpoint has a slot; a slot whose
 * endpoint stays changes only to give an endpoint its share; the same input gives the same answer.
 */

/** Each can be shared out evenly among many numbers of endpoints. */
const SLOT_COUNTS: readonly number[] = [12, 60, 240, 1_260, 5_040];

/** A replica on the same node saves a way through the network, as long as it is no busier than the others. */
export const LOCAL_WEIGHT = 3;

export interface SlotUser {
  /** Where it is, like 10.0.0.1:20000. */
  readonly address: string;
  readonly isLocal: boolean;
  /** Its share beside that of others, 1 when left out. */
  readonly weight?: number;
}

/**
 * @param endpoints how many have to have room
 * @returns how many slots a route is to have
 */
export const slotCountFor = (endpoints: number): number =>
  SLOT_COUNTS.find((count) => count >= 2 * endpoints) ?? 2 * endpoints;

/**
 * How many slots each gets, by the method of the largest remainder.
 *
 * @returns shares in the order of the users; they add up to `count`, and none is 0
 */
const sharesOf = (count: number, users: readonly SlotUser[]): readonly number[] => {
  const weights = users.map(({ isLocal, weight = 1 }) => weight * (isLocal ? LOCAL_WEIGHT : 1));
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  // One for each first: the rest is shared by weight.
  const rest = count - users.length;
  const exact = weights.map((weight) => (rest * weight) / all);
  const shares = exact.map((share) => 1 + Math.floor(share));
  const left = count - shares.reduce((sum, share) => sum + share, 0);
  const byRemainder = exact
    .map((share, index) => ({ index, remainder: share - Math.floor(share) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  for (const { index } of byRemainder.slice(0, left)) shares[index] = (shares[index] ?? 0) + 1;
  return shares;
};

/**
 * Shares slots out among endpoints.
 *
 * @param count how many slots there are; at least as many as endpoints
 * @param users the endpoints, each address once
 * @param before where the slots lead now; may have another length
 * @returns where each slot is to lead; empty without endpoints
 * @throws {RangeError} when there are more endpoints than slots
 */
export const fillSlots = (
  count: number,
  users: readonly SlotUser[],
  before: readonly string[] = [],
): readonly string[] => {
  if (users.length > count) throw new RangeError(`${users.length} endpoints do not fit into ${count} slots`);
  if (users.length === 0) return [];
  const sorted = [...users].sort((a, b) => (a.address < b.address ? -1 : 1));
  const shares = sharesOf(count, sorted);
  const wanting = new Map(sorted.map(({ address }, index) => [address, shares[index] ?? 0]));
  const kept = Array.from({ length: count }, (_, index): string | undefined => {
    const address = before[index];
    const wanted = address === undefined ? 0 : (wanting.get(address) ?? 0);
    if (address === undefined || wanted === 0) return undefined;
    wanting.set(address, wanted - 1);
    return address;
  });
  // As many as there are slots without an endpoint: the shares add up to all of them.
  const given = [...wanting].flatMap(([address, wanted]) => Array.from({ length: wanted }, () => address));
  let next = 0;
  return kept.flatMap((address) => address ?? given[next++] ?? []);
};
