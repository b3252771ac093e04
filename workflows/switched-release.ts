/**
 * The release that has all requests, while its operation still keeps what it could go back to. Pure.
 *
 * Invariant: the operation under way goes back to the settled release as long as it lasts; only another new release
 * settles the one that was switched to.
 */

import type { EntityState } from './entity-state';

/** Enters that all requests are led to a release, or, with undefined, that they are led back. */
export const withSwitched = (state: EntityState, release: number | undefined): EntityState => {
  const { switchedRelease: _before, ...rest } = state;
  return release === undefined ? rest : { ...rest, switchedRelease: release };
};

/** As a new release finds it: what has all requests is what it takes over from, and goes back to. */
export const settleSwitched = (state: EntityState): EntityState =>
  state.switchedRelease === undefined || state.switchedRelease !== state.desiredRelease
    ? state
    : { ...withSwitched(state, undefined), settledRelease: state.desiredRelease };
