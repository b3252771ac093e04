/**
 * Files of places beside their slots: who is asked when a replica has failed, and of places with options the texts that
 * they answer with, and the seats of sticky ones.
 *
 * Invariant: a seat has no token while it is given to another endpoint, so nobody who has one is led to another.
 */

import { otherFile } from '../../adapters/ingress/other-replica';
import { pagesOf, seatCount, seatFile, tokenFile, tokenOf } from '../../adapters/ingress/route-handlers';
import type { PlaceFiles } from '../../adapters/ingress/place-files';
import { hashText } from '../../domain/hash';
import type { Place } from '../../domain/ingress/layout';
import { chooseOthers } from '../../domain/ingress/others';
import type { Endpoint } from '../../domain/ingress/routes';
import { NO_TOKEN, fillSeats, type Seat } from '../../domain/ingress/seats';
import { hostPort } from '../../domain/host-port';

export interface PlaceParts {
  write(place: Place, endpoints: readonly Endpoint[]): void;
}

/**
 * @param nodeId whose ingress it is: each asks others when a replica has failed
 * @param nowhere where seats lead when there is no endpoint
 */
export const createPlaceParts = (
  files: Pick<PlaceFiles, 'writePart'>,
  nodeId: string,
  nowhere: string,
): PlaceParts => {
  const seed = hashText(nodeId);
  const seats = new Map<number, readonly Seat[]>();
  return {
    write: (place, endpoints) => {
      const { number } = place;
      for (const [name, text] of Object.entries(pagesOf(place))) files.writePart(number, name, text);
      const users = new Map(
        endpoints.map((endpoint): [string, Seat] => {
          const address = hostPort(endpoint.address, endpoint.port);
          return [address, { address, token: tokenOf(endpoint.replicaId) }];
        }),
      );
      chooseOthers([...users.keys()], seed + number, nowhere).forEach((address, index) =>
        files.writePart(number, otherFile(index), address),
      );
      const before = seats.get(number) ?? [];
      if (seatCount(place) === 0) return;
      const next = fillSeats(seatCount(place), [...users.values()], before, nowhere);
      next.forEach(({ address, token }, seat) => {
        if (before[seat]?.token !== token) files.writePart(number, tokenFile(seat), NO_TOKEN);
        files.writePart(number, seatFile(seat), address);
        files.writePart(number, tokenFile(seat), token);
      });
      seats.set(number, next);
    },
  };
};
