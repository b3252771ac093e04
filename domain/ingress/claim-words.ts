/** What claims are called: hostnames, paths of hostnames, and public ports. Pure. */

import { publicPortInWords, publicPortOfClaim } from './public-ports';

/** "shop.example.com/api", "port 5432/tcp". */
export const claimInWords = (claim: string): string => {
  const port = publicPortOfClaim(claim);
  return port === undefined ? claim : publicPortInWords(port);
};

/** Why a change is refused that asks for what another microservice has. @param owner its name */
export const claimTakenInWords = (claim: string, owner: string): string => {
  const port = publicPortOfClaim(claim);
  const [what, kind] =
    port === undefined
      ? [`hostname ${claim}`, 'hostname']
      : [`public ${publicPortInWords(port)}`, 'public port'];
  return `The ${what} belongs to the microservice ${owner}. Use another ${kind}, take it from there first, or take it over with ?moveHostnames=true (containeros deploy --move-hostnames).`;
};
