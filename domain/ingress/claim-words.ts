/** What claims are called: hostnames, paths of hostnames, and public ports. Pure. */

import { isHostnameClaim, publicPortInWords, publicPortOfClaim } from './public-ports';

/** "shop.example.com/api", "port 5432/tcp". */
export const claimInWords = (claim: string): string => {
  const port = publicPortOfClaim(claim);
  return port === undefined ? claim : publicPortInWords(port);
};

interface Taken {
  /** The claim, be it of a hostname or of a public port. */
  readonly hostname: string;
  /** The name of the microservice that has it. */
  readonly owner: string;
}

const kindOf = (claim: string): string => (isHostnameClaim(claim) ? 'hostname' : 'public port');

const withKind = (claim: string): string =>
  isHostnameClaim(claim) ? `hostname ${claim}` : `public ${claimInWords(claim)}`;

/** Why a change is refused that asks for what other microservices have. @param taken all of that; one at least */
export const claimsTakenInWords = (taken: readonly Taken[]): string => {
  const owned = taken.map(({ hostname, owner }, index) =>
    index === 0
      ? `The ${withKind(hostname)} belongs to the microservice ${owner}`
      : `${withKind(hostname)} to ${owner}`,
  );
  const said =
    owned.length === 1 ? owned.join('') : `${owned.slice(0, -1).join(', ')}, and ${owned.at(-1) ?? ''}`;
  const [another, them] =
    taken.length === 1 ? [`another ${kindOf(taken[0]?.hostname ?? '')}`, 'it'] : ['others', 'them'];
  return `${said}. Use ${another}, take ${them} from there first, or take ${them} over with ?moveHostnames=true (containeros deploy --move-hostnames).`;
};
