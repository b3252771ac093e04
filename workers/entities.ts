/** How the watch over the cluster reaches entities and nodes: by Temporal's client. */

import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError, type Client } from '@temporalio/client';

import type { ClusterDependencies } from '../activities/cluster-activities';
import type { PullAhead } from '../contracts/activities';
import { CONTROL_PLANE_QUEUE } from '../contracts/queues';
import {
  SEARCH_ATTRIBUTE,
  SIGNAL,
  WORKFLOW,
  microserviceWorkflowId,
  parseOperationId,
  pullAheadWorkflowId,
} from '../contracts/workflows';
import { FINAL_OPERATION_STATES, type MicroserviceKey } from '../domain/model';
import type { MicroserviceInput } from '../workflows/entity';
import { stateFromDocument } from '../workflows/entity-state';

export const entitiesOf = (client: Client): ClusterDependencies['entities'] => ({
  signal: async (key, signal) => {
    try {
      await client.workflow.getHandle(microserviceWorkflowId(key)).signal(SIGNAL.observedChanged, signal);
      return true;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return false;
      throw error;
    }
  },
  operatingOn: async (nodeId) => {
    const found: MicroserviceKey[] = [];
    const query = `${SEARCH_ATTRIBUTE.nodes} = '${nodeId.replaceAll("'", "''")}' AND ExecutionStatus = 'Running'`;
    for await (const { workflowId } of client.workflow.list({ query })) {
      const operation = parseOperationId(workflowId);
      if (operation !== undefined) found.push(operation);
    }
    return found;
  },
  running: async () => {
    const running = new Set<string>();
    const query = `WorkflowType = '${WORKFLOW.microservice}' AND ExecutionStatus = 'Running'`;
    for await (const { workflowId } of client.workflow.list({ query })) {
      running.add(workflowId.slice(workflowId.indexOf(':') + 1));
    }
    return running;
  },
  recover: async (microservice, releases, operations, split) => {
    const lost = operations.filter(
      ({ id, state }) => id !== microservice.operation && !FINAL_OPERATION_STATES.includes(state),
    );
    const input: MicroserviceInput = {
      project: microservice.project,
      name: microservice.name,
      carried: stateFromDocument(microservice, releases, operations, split),
      // Their plans are where they are, and are long.
      ...(lost.length === 0 ? {} : { lost: lost.map((operation) => ({ ...operation, plan: [] })) }),
    };
    await client.workflow.start(WORKFLOW.microservice, {
      workflowId: microserviceWorkflowId(microservice),
      taskQueue: CONTROL_PLANE_QUEUE,
      workflowIdConflictPolicy: 'USE_EXISTING',
      args: [input],
      staticSummary: `microservice ${microservice.name}`,
    });
  },
});

/** Asks a node for images that it may need soon. @returns false when it is still at what it was asked for before */
export const pullsAheadBy =
  (client: Client) =>
  async (nodeId: string, images: readonly string[]): Promise<boolean> => {
    const input: PullAhead = { nodeId, images };
    try {
      await client.workflow.start(WORKFLOW.pullAhead, {
        workflowId: pullAheadWorkflowId(nodeId),
        taskQueue: CONTROL_PLANE_QUEUE,
        args: [input],
        staticSummary: `node ${nodeId} pulls ahead ${images.join(', ')}`,
      });
      return true;
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) return false;
      throw error;
    }
  };
