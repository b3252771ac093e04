/** How the keeper reaches workflows of certificates: by Temporal's client. */

import { WorkflowNotFoundError, type Client } from '@temporalio/client';

import {
  CERTIFICATE_SIGNAL,
  CERTIFICATE_WORKFLOW,
  certificateWorkflowId,
  type CertificateInput,
} from '../../contracts/certificate-workflow';
import { CONTROL_PLANE_QUEUE } from '../../contracts/queues';

import type { CertificateWorkflows } from './certificate-keeper';

export const certificateWorkflowsOf = (client: Client): CertificateWorkflows => {
  const signal = async (hostname: string, name: string): Promise<void> => {
    try {
      await client.workflow.getHandle(certificateWorkflowId(hostname)).signal(name);
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  };
  return {
    want: async (hostname) => {
      const input: CertificateInput = { hostname };
      await client.workflow.signalWithStart(CERTIFICATE_WORKFLOW, {
        workflowId: certificateWorkflowId(hostname),
        taskQueue: CONTROL_PLANE_QUEUE,
        args: [input],
        signal: CERTIFICATE_SIGNAL.hostnameWanted,
        signalArgs: [],
        staticSummary: `certificate of ${hostname}`,
      });
    },
    gone: (hostname) => signal(hostname, CERTIFICATE_SIGNAL.hostnameGone),
    retryNow: (hostname) => signal(hostname, CERTIFICATE_SIGNAL.retryNow),
    running: async () => {
      const found: string[] = [];
      const query = `WorkflowType = '${CERTIFICATE_WORKFLOW}' AND ExecutionStatus = 'Running'`;
      for await (const { workflowId } of client.workflow.list({ query })) {
        found.push(workflowId.slice(workflowId.indexOf(':') + 1));
      }
      return found;
    },
  };
};
