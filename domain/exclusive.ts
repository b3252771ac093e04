/** Microservices that must never run twice. Pure. */

import type { ReleaseSpec } from './spec/schema';

export const MAX_EXCLUSIVE_SCALE = 1;

/**
 * How many replicas there are to be of a release. The scale is kept beside the releases, so that one that is exclusive
 * may meet a scale from before; what it goes back to has that scale again.
 */
export const scaleOf = ({ exclusive }: Pick<ReleaseSpec, 'exclusive'>, scale: number): number =>
  exclusive === true ? Math.min(scale, MAX_EXCLUSIVE_SCALE) : scale;
