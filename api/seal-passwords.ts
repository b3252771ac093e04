/**
 * Passwords of routes become bcrypt hashes here, before anything is kept: no history, document or answer has them.
 *
 * Invariant: a password that is given again keeps its hash, so that the same specification is the same release.
 */

import { compare, hash } from 'bcryptjs';

import type { RouteSpec } from '../domain/ingress/route-options';
import { BCRYPT } from '../domain/spec/route-schema';
import type { ReleaseSpec } from '../domain/spec/schema';

/** As of bcrypt's users today; the proxies keep what they have seen, so it is not paid for each request. */
const COST = 10;

/** The hashes that each user has anywhere in a release. */
const hashesOf = (release: ReleaseSpec | undefined): ReadonlyMap<string, ReadonlySet<string>> => {
  const found = new Map<string, Set<string>>();
  for (const { ports } of release?.containers ?? []) {
    for (const { routes = [] } of ports) {
      for (const [user, known] of routes.flatMap(({ basicAuth = {} }) => Object.entries(basicAuth))) {
        found.set(user, (found.get(user) ?? new Set()).add(known));
      }
    }
  }
  return found;
};

/**
 * @param release as it was parsed
 * @param current what the microservice runs, if it is there
 */
export const sealPasswords = async (
  release: ReleaseSpec,
  current: ReleaseSpec | undefined,
): Promise<ReleaseSpec> => {
  const known = hashesOf(current);
  const sealed = new Map<string, Promise<string>>();

  const hashAnew = async (user: string, password: string): Promise<string> => {
    for (const one of known.get(user) ?? []) {
      if (await compare(password, one)) return one;
    }
    return hash(password, COST);
  };

  const seal = (user: string, password: string): Promise<string> => {
    if (BCRYPT.test(password)) return Promise.resolve(password);
    const key = JSON.stringify([user, password]);
    const made = sealed.get(key) ?? hashAnew(user, password);
    sealed.set(key, made);
    return made;
  };

  const sealRoute = async (route: RouteSpec): Promise<RouteSpec> => {
    if (route.basicAuth === undefined) return route;
    const users = Object.entries(route.basicAuth).map(
      async ([user, password]) => [user, await seal(user, password)] as const,
    );
    return { ...route, basicAuth: Object.fromEntries(await Promise.all(users)) };
  };

  const containers = release.containers.map(async (container) => ({
    ...container,
    ports: await Promise.all(
      container.ports.map(async (port) =>
        port.routes === undefined ? port : { ...port, routes: await Promise.all(port.routes.map(sealRoute)) },
      ),
    ),
  }));
  return { ...release, containers: await Promise.all(containers) };
};

/** Of a document as it is written: without passwords, for telling it from others by what can be kept. */
export const withoutPasswords = (key: string, value: unknown): unknown =>
  key === 'basicAuth' && typeof value === 'object' && value !== null
    ? Object.fromEntries(
        Object.entries(value).map(([user, password]: [string, unknown]) => [
          user,
          typeof password === 'string' && BCRYPT.test(password) ? password : '',
        ]),
      )
    : value;
