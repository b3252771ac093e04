/** Replicas, as their node workers have published them. */

import { microserviceQuery, replicaListQuery, replicasOfQuery } from '../../openapi/parameters';
import type { RouteDeps } from '../api-deps';
import { pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { findMicroservice, findReplica } from '../find';
import { pageOf, type PageQuery } from '../page';
import { TOPIC } from '../read-documents';
import type { ShownReplica } from '../read-model';
import { replicaView } from '../views';
import { versionHeaders, waitAsWatched } from '../watch';

interface ReplicaFilter {
  readonly microservice?: string | undefined;
  readonly node?: string | undefined;
  readonly state?: ShownReplica['state'] | undefined;
}

const matches = (filter: ReplicaFilter) => (replica: ShownReplica) =>
  (filter.microservice === undefined || replica.name.toLowerCase() === filter.microservice.toLowerCase()) &&
  (filter.node === undefined || replica.nodeId === filter.node) &&
  (filter.state === undefined || replica.state === filter.state);

export const replicaRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel } = deps;

  const send = (exchange: Exchange, topic: string, view: (index: number) => unknown) => {
    const index = readModel.versions.of(topic);
    sendJson(exchange, 200, { value: view(index) }, versionHeaders(deps, index));
  };

  /** In the order of their ids. */
  const pageOfReplicas = (replicas: readonly ShownReplica[], query: ReplicaFilter & PageQuery) => {
    const sorted = replicas.filter(matches(query)).sort((a, b) => (a.id < b.id ? -1 : 1));
    const { items, ...rest } = pageOf(sorted, query, ({ id }) => id);
    return { items: items.map(replicaView), ...rest };
  };

  const list = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, replicaListQuery);
    await waitAsWatched(deps, exchange, query, TOPIC.replicas);
    send(exchange, TOPIC.replicas, (index) => ({
      index,
      ...pageOfReplicas(readModel.replicas(), query),
    }));
  };

  const listOf = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, replicasOfQuery);
    const microservice = findMicroservice(readModel, pathParameter(exchange, 'name'));
    const topic = TOPIC.microservice(microservice);
    await waitAsWatched(deps, exchange, query, topic);
    send(exchange, topic, (index) => ({
      index,
      ...pageOfReplicas(readModel.replicasOf(microservice), query),
    }));
  };

  const read = async (exchange: Exchange): Promise<void> => {
    const id = pathParameter(exchange, 'id');
    const query = queryOf(exchange, microserviceQuery);
    findReplica(readModel, id);
    await waitAsWatched(deps, exchange, query, TOPIC.replica(id));
    const replica = findReplica(readModel, id);
    send(exchange, TOPIC.replica(id), () => replicaView(replica));
  };

  const access = 'password';
  return [
    { method: 'GET', path: '/v1/replicas', access, handle: list },
    { method: 'GET', path: '/v1/replicas/{id}', access, handle: read },
    { method: 'GET', path: '/v1/microservices/{name}/replicas', access, handle: listOf },
  ];
};
