/** Has the workflow of a hostname's certificate look, and try, now. */

import { ServiceError, type Client } from '@temporalio/client';

import {
  CERTIFICATE_SIGNAL,
  CERTIFICATE_WORKFLOW,
  certificateWorkflowId,
  type CertificateInput,
} from '../contracts/certificate-workflow';
import { CONTROL_PLANE_QUEUE } from '../contracts/queues';
import { TIMEOUT } from '../contracts/timeouts';
import { ContainerOsError } from '../domain/errors';

/**
 * Starts it where it does not run: whoever ended it by hand gets it back.
 *
 * @throws {ContainerOsError} `unavailable` when Temporal does not take it in in time
 */
export type RetryCertificate = (hostname: string) => Promise<void>;

export const createCertificateRetry =
  (client: Client, timeoutMs: number = TIMEOUT.updateMs): RetryCertificate =>
  async (hostname) => {
    const input: CertificateInput = { hostname };
    try {
      await client.withDeadline(Date.now() + timeoutMs, () =>
        client.workflow.signalWithStart(CERTIFICATE_WORKFLOW, {
          workflowId: certificateWorkflowId(hostname),
          taskQueue: CONTROL_PLANE_QUEUE,
          args: [input],
          signal: CERTIFICATE_SIGNAL.retryNow,
          signalArgs: [],
          staticSummary: `certificate of ${hostname}`,
        }),
      );
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      throw new ContainerOsError(
        'unavailable',
        `Temporal has not taken it in that the certificate for ${hostname} is to be tried again. Ask again in a moment; it is tried again by itself, too.`,
        [],
        { cause: error },
      );
    }
  };
