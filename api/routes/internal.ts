/** What node workers use: contracts/node-stream.ts, seen from the API. Not part of the public document. */

import { NODE_STREAM_KEEPALIVE_MS, nodeRequestsPath, nodeStreamPath } from '../../contracts/node-stream';
import { ContainerOsError, isErrorCode } from '../../domain/errors';
import type { RouteDeps } from '../api-deps';
import { beginStream, pathParameter, type Exchange, type Route } from '../exchange';

export const internalRoutes = ({ nodeStreams, log }: RouteDeps): readonly Route[] => {
  const requests = async (exchange: Exchange): Promise<void> => {
    const nodeId = pathParameter(exchange, 'nodeId');
    const { res, signal } = exchange;
    const write = beginStream(exchange, 'application/x-ndjson');
    const gone = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve());
    });
    const disconnected = nodeStreams.connected(nodeId, {
      send: (line) => {
        if (signal.aborted || res.destroyed) return false;
        void write(line);
        return true;
      },
      close: () => res.end(),
    });
    log.info({ node: nodeId }, 'a node has opened its stream');
    const timer = setInterval(() => void write('\n'), NODE_STREAM_KEEPALIVE_MS);
    // The first line tells the node at once that it was let in.
    await write('\n');
    await gone;
    clearInterval(timer);
    disconnected();
    log.info({ node: nodeId }, 'the stream of a node has ended');
    res.end();
  };

  const answer = async (exchange: Exchange): Promise<void> => {
    const { req, res, query } = exchange;
    const requestId = pathParameter(exchange, 'requestId');
    const code = query.get('error');
    const beginReply = () => {
      res.writeHead(200, { 'content-type': 'application/octet-stream' }).flushHeaders();
      return res;
    };
    if (code === null) await nodeStreams.answer(requestId, req, undefined, beginReply);
    else {
      const message = query.get('message') ?? 'The node could not answer.';
      nodeStreams.refuse(requestId, new ContainerOsError(isErrorCode(code) ? code : 'unavailable', message));
    }
    if (!res.headersSent && !res.destroyed) res.writeHead(204).end();
  };

  const access = 'node';
  return [
    { method: 'GET', path: nodeRequestsPath('{nodeId}'), access, handle: requests },
    { method: 'POST', path: nodeStreamPath('{requestId}'), access, handle: answer },
  ];
};
