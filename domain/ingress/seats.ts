/**
 * Seats: the places of a sticky route, one for each endpoint, which a client finds again by a token. Pure.
 *
 * Invariants: an endpoint keeps its seat as long as it is there; a seat without one has no token and leads to another
 * endpoint all the same, so that a request that was on its way there is answered.
 */

export interface Seat {
  readonly address: string;
  readonly token: string;
}

/** No client has it. */
export const NO_TOKEN = '-';

/**
 * @param count how many seats there are; at least as many as endpoints
 * @param users the endpoints, each token once
 * @param before who has the seats now; may have another length
 * @param nowhere what seats lead to when there is no endpoint
 * @throws {RangeError} when there are more endpoints than seats
 */
export const fillSeats = (
  count: number,
  users: readonly Seat[],
  before: readonly Seat[],
  nowhere: string,
): readonly Seat[] => {
  if (users.length > count) throw new RangeError(`${users.length} endpoints do not fit into ${count} seats`);
  const coming = new Map(users.map((user) => [user.token, user]));
  const kept = Array.from({ length: count }, (_, seat): Seat | undefined => {
    const user = coming.get(before[seat]?.token ?? NO_TOKEN);
    if (user !== undefined) coming.delete(user.token);
    return user;
  });
  const waiting = [...coming.values()];
  let next = 0;
  return kept.map(
    (user, seat) =>
      user ?? waiting[next++] ?? { address: users[seat % users.length]?.address ?? nowhere, token: NO_TOKEN },
  );
};
