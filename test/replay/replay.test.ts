/** Today's workflows against the histories that earlier versions have written (README.md). */

import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { join } from 'node:path';

import { workflowBundle } from '../workflow/workflow-bundle';

import { readHistories, recordHistories, recordedScenarios } from './histories';

jest.setTimeout(120_000);

interface Result {
  readonly workflowId: string;
  readonly workflowType: string;
  readonly error: Error | undefined;
}

const replay = async (scenario: string, codePath: string): Promise<readonly Result[]> => {
  const histories = readHistories(scenario);
  const results: Result[] = [];
  for await (const { workflowId, error } of Worker.runReplayHistories(
    { workflowBundle: { codePath } },
    histories.map(({ workflowId, history }) => ({ workflowId, history })),
  )) {
    const workflowType = histories[results.length]?.workflowType ?? '';
    results.push({ workflowId, workflowType, error });
  }
  expect(results).toHaveLength(histories.length);
  return results;
};

const toRecord = process.env.CONTAINEROS_RECORD_HISTORIES;

if (toRecord !== undefined) {
  test('record', async () => {
    console.log(await recordHistories(toRecord.split(',')));
  });
} else {
  beforeAll(() => {
    Runtime.install({
      logger: new DefaultLogger('ERROR'),
      telemetryOptions: { logging: { filter: 'OFF', forward: {} } },
      shutdownSignals: [],
    });
  });

  test('there are recordings', () => {
    expect(recordedScenarios().length).toBeGreaterThan(0);
  });

  test.each(recordedScenarios())('%s', async (scenario) => {
    const codePath = await workflowBundle();
    for (const { workflowId, error } of await replay(scenario, codePath)) {
      if (error) throw new Error(`${workflowId}: ${error.message}`, { cause: error });
    }
  });

  test('a change that breaks histories is found', async () => {
    const codePath = await workflowBundle({ workflowsPath: join(__dirname, 'changed-workflows.ts') });
    const results = await replay('001/life.json', codePath);
    const deploys = results.filter(({ workflowType }) => workflowType === 'deploy');
    expect(deploys.length).toBeGreaterThan(0);
    for (const { error } of deploys) expect(error).toBeInstanceOf(DeterminismViolationError);
    for (const { workflowType, error } of results) {
      if (workflowType !== 'deploy') expect(error).toBeUndefined();
    }
  });
}
