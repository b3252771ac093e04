/** How the watch over the cluster reaches entities: by Temporal's client. */

import { WorkflowNotFoundError, type Client } from '@temporalio/client';

import type { ClusterDependencies } from '../activities/cluster-activities';
import { CONTROL_PLANE_QUEUE } from '../contracts/queues';
import {
  SEARCH_ATTRIBUTE,
  SIGNAL,
  WORKFLOW,
  microserviceWorkflowId,
  parseOperationId,
} from '../contracts/workflows';
import type { MicroserviceKey } from '../domain/model';
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
  recover: async (microservice, releases, newest) => {
    const input: MicroserviceInput = {
      project: microservice.project,
      name: microservice.name,
      carried: stateFromDocument(microservice, releases, newest),
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
