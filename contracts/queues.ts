/** Names of Temporal task queues. */

export const CONTROL_PLANE_QUEUE = 'control-plane';

/** The queue that only the worker of this node polls. */
export const nodeQueue = (nodeId: string): string => `node-${nodeId}`;
