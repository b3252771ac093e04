/** Nodes: what they published, and what operators make of them. */

import type { NodeAvailability } from '../../domain/model';
import { emptyQuery, isSet, microserviceQuery, pagedQuery, removeNodeQuery } from '../../openapi/parameters';
import { emptyRequestSchema, type RemovedNodeView } from '../../openapi/schemas';
import { ContainerOsError } from '../../domain/errors';
import type { RouteDeps } from '../api-deps';
import { parsedBodyOf, pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { findNode, notFound } from '../find';
import { pageOf } from '../page';
import { TOPIC } from '../read-documents';
import type { ShownReplica } from '../read-model';
import { nodeView } from '../views';
import { versionHeaders, waitAsWatched } from '../watch';

/** How long an answer waits for the read model; the setting is made by then, whatever the read model knows. */
const OWN_WRITE_TIMEOUT_MS = 2_000;

export const nodeRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, nodeStreams, nodeSettings, nodeRemover } = deps;

  const list = async (exchange: Exchange): Promise<void> => {
    const query = queryOf(exchange, pagedQuery);
    await waitAsWatched(deps, exchange, query, TOPIC.nodes);
    const byNode = new Map<string, ShownReplica[]>();
    for (const replica of readModel.replicas()) {
      const there = byNode.get(replica.nodeId) ?? [];
      byNode.set(replica.nodeId, there);
      there.push(replica);
    }
    const { items, ...rest } = pageOf(readModel.nodes(), query, ({ id }) => id);
    const index = readModel.versions.of(TOPIC.nodes);
    const value = {
      index,
      items: items.map((node) => nodeView(node, byNode.get(node.id) ?? [], nodeStreams.isConnected(node.id))),
      ...rest,
    };
    sendJson(exchange, 200, { value }, versionHeaders(deps, index));
  };

  const sendOne = (exchange: Exchange, id: string): void => {
    const found = findNode(readModel, id);
    const replicas = readModel.replicas().filter(({ nodeId }) => nodeId === id);
    sendJson(
      exchange,
      200,
      { value: nodeView(found, replicas, nodeStreams.isConnected(id)) },
      versionHeaders(deps, readModel.versions.of(TOPIC.node(id))),
    );
  };

  const read = async (exchange: Exchange): Promise<void> => {
    const id = pathParameter(exchange, 'id');
    const query = queryOf(exchange, microserviceQuery);
    findNode(readModel, id);
    await waitAsWatched(deps, exchange, query, TOPIC.node(id));
    sendOne(exchange, id);
  };

  const set =
    (availability: NodeAvailability) =>
    async (exchange: Exchange): Promise<void> => {
      const id = pathParameter(exchange, 'id');
      queryOf(exchange, emptyQuery);
      await parsedBodyOf(exchange, emptyRequestSchema);
      findNode(readModel, id);
      const index = await nodeSettings.setAvailability(id, availability);
      if (index !== undefined) await readModel.waitForIndex(index, OWN_WRITE_TIMEOUT_MS, 'nodeSettings');
      sendOne(exchange, id);
    };

  /** What has ended there does nothing any more that somebody could miss. */
  const assertMayGo = (id: string): void => {
    const serving = readModel.replicas().filter(({ nodeId, state }) => nodeId === id && state !== 'exited');
    if (serving.length === 0) return;
    const replicas = `${serving.length} ${serving.length === 1 ? 'replica' : 'replicas'}`;
    throw new ContainerOsError(
      'conflict',
      `Node ${id} is up and has ${replicas}. Drain it (POST /v1/nodes/${id}/drain) and remove it when the event node.drained has told that nothing is left. With ?force=true it is removed now: its replicas start elsewhere, and whatever runs there is left to itself.`,
    );
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    const id = pathParameter(exchange, 'id');
    const { force } = queryOf(exchange, removeNodeQuery);
    nodeRemover.assertRemovable(id);
    readModel.assertLoaded();
    const node = readModel.node(id);
    const isUp = node !== undefined && node.health !== 'lost';
    if (isUp && !isSet(force)) assertMayGo(id);
    const index = await nodeRemover.remove(id);
    if (index === undefined) {
      throw notFound(
        'node',
        id,
        readModel.nodes().map((one) => one.id),
      );
    }
    await readModel.waitForIndex(index, OWN_WRITE_TIMEOUT_MS, 'nodes');
    const value: RemovedNodeView = {
      id,
      message: isUp
        ? `Node ${id} is removed. It was still running: stop ContainerOS there. The cluster refuses it, and its containers run on until they are stopped there.`
        : `Node ${id} is removed.`,
    };
    sendJson(exchange, 200, { value });
  };

  const access = 'password';
  return [
    { method: 'GET', path: '/v1/nodes', access, handle: list },
    { method: 'GET', path: '/v1/nodes/{id}', access, handle: read },
    { method: 'DELETE', path: '/v1/nodes/{id}', access, handle: remove },
    { method: 'POST', path: '/v1/nodes/{id}/cordon', access, handle: set('cordoned') },
    { method: 'POST', path: '/v1/nodes/{id}/uncordon', access, handle: set('active') },
    { method: 'POST', path: '/v1/nodes/{id}/drain', access, handle: set('draining') },
  ];
};
