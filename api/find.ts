/** Finds what a path names in the read model, or says what was probably meant. */

import { DEFAULT_PROJECT, type Microservice, type MicroserviceKey } from '../domain/model';
import { ContainerOsError } from '../domain/errors';
import { editDistance } from '../domain/spec/suggest';

import type { ReadModel, ShownNode, ShownReplica } from './read-model';

/** More than this is not read through for the sake of a hint. */
const MAX_CANDIDATES = 2_000;
const MAX_NAME = 80;

const meant = (name: string, candidates: readonly string[]): string => {
  if (name.length > MAX_NAME || candidates.length === 0) return '';
  const wanted = name.toLowerCase();
  const [nearest] = candidates
    .slice(0, MAX_CANDIDATES)
    .map((candidate) => ({ candidate, distance: editDistance(wanted, candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const limit = Math.max(1, Math.floor(wanted.length / 3));
  return nearest !== undefined && nearest.distance <= limit ? ` Did you mean ${nearest.candidate}?` : '';
};

const quote = (name: string): string => (name.length > MAX_NAME ? `${name.slice(0, MAX_NAME)}…` : name);

export const notFound = (what: string, name: string, candidates: readonly string[] = []): ContainerOsError =>
  new ContainerOsError('not_found', `There is no ${what} ${quote(name)}.${meant(name, candidates)}`);

/** Of what a replica has few enough to name all of them. */
export const containerNotFound = (name: string, containers: readonly string[]): ContainerOsError => {
  const there = `there ${containers.length === 1 ? 'is' : 'are'} ${containers.join(', ')}`;
  return new ContainerOsError(
    'not_found',
    `There is no container ${quote(name)}; ${there}.${meant(name, containers)}`,
  );
};

export const keyOf = (name: string): MicroserviceKey => ({ project: DEFAULT_PROJECT, name });

/** Names are compared without case and stand in a path of the store, so nothing else may be in one. */
const isName = (name: string): boolean => /^[A-Za-z][A-Za-z0-9-]{0,62}$/.test(name);

export const microserviceNames = (readModel: ReadModel): string[] =>
  readModel.microservices().map(({ name }) => name);

/** @throws {ContainerOsError} `not_found`; `unavailable` while nothing has been read */
export const findMicroservice = (readModel: ReadModel, name: string): Microservice => {
  readModel.assertLoaded();
  const found = isName(name) ? readModel.microservice(keyOf(name)) : undefined;
  if (!found) throw notFound('microservice', name, microserviceNames(readModel));
  return found;
};

/** @throws {ContainerOsError} `not_found` when nothing could have this name */
export const assertName = (readModel: ReadModel, name: string): void => {
  if (!isName(name)) throw notFound('microservice', name, microserviceNames(readModel));
};

export const findReplica = (readModel: ReadModel, id: string): ShownReplica => {
  readModel.assertLoaded();
  const found = readModel.replica(id);
  if (!found) {
    throw notFound(
      'replica',
      id,
      readModel.replicas().map((replica) => replica.id),
    );
  }
  return found;
};

export const findNode = (readModel: ReadModel, id: string): ShownNode => {
  readModel.assertLoaded();
  const found = readModel.node(id);
  if (!found) {
    throw notFound(
      'node',
      id,
      readModel.nodes().map((node) => node.id),
    );
  }
  return found;
};
