/** How many replicas are desired, in words. */

import { scaleOf } from './exclusive';
import type { Desired } from './model';

/** @returns "at scale 3", or where the nodes decide on how many: "on every node that matches" */
export const describeDesired = ({ release, scale }: Pick<Desired, 'release' | 'scale'>): string =>
  release.spec.daemon === true ? 'on every node that matches' : `at scale ${scaleOf(release.spec, scale)}`;
