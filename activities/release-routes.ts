/**
 * What every ingress has to know of routes with options: the part of releases that is published for nodes to read, which
 * nothing else of a release is. Pure.
 *
 * Invariants: the desired release and the last settled one are in it, and those between as far as there is room, so that
 * whatever runs is known; a microservice whose releases have no options has no such document.
 */

import type { PortRoute, ReleaseRoutes } from '../domain/ingress/route-options';
import { jsonBytes } from '../domain/json-bytes';
import type { Microservice, Release } from '../domain/model';

/** Of what is neither desired nor settled: it travels in one transaction with the release itself. */
const MAX_BYTES_BETWEEN = 60_000;

type Released = ReleaseRoutes['releases'][number];

const routesIn = ({ spec }: Release): readonly PortRoute[] =>
  spec.containers.flatMap(({ name, ports }) =>
    ports.flatMap(({ port, routes = [] }) => routes.map((route) => ({ ...route, container: name, port }))),
  );

/**
 * @param microservice as it is about to be published
 * @param before what is published of its routes
 * @returns what is to be, newest first; undefined: nothing
 */
export const releaseRoutesOf = (
  microservice: Microservice,
  before: ReleaseRoutes | undefined,
): ReleaseRoutes | undefined => {
  const { release, settledRelease } = microservice;
  const desired: Released = {
    number: release.number,
    createdAtMs: release.createdAtMs,
    routes: routesIn(release),
  };
  let bytes = 0;
  const earlier = (before?.releases ?? []).filter((one) => {
    if (one.number === release.number || !microservice.releaseNumbers.includes(one.number)) return false;
    if (one.number === settledRelease) return true;
    if (settledRelease !== undefined && one.number < settledRelease) return false;
    bytes += jsonBytes(one);
    return bytes <= MAX_BYTES_BETWEEN;
  });
  const releases = [desired, ...earlier];
  if (releases.every(({ routes }) => routes.length === 0)) return undefined;
  return { project: microservice.project, name: microservice.name, releases };
};
