/**
 * Records histories of scenarios, and reads what was recorded.
 *
 * Invariants: a recording never replaces one that is there; it holds nothing that tells of the machine that made it.
 */

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';

import { microserviceWorkflowId } from '../../contracts/workflows';
import { createSubject, type Subject } from '../workflow/subject';
import { startTemporal } from '../workflow/temporal';
import { temporalBinary } from '../workflow/temporal-binary';

import { SCENARIOS, type Scenario } from './scenarios';

const FOLDER = join(__dirname, 'histories');
const IDENTITY = 'recorder';

export interface RecordedHistory {
  readonly workflowId: string;
  readonly workflowType: string;
  readonly history: unknown;
}

/** Paths of all recordings, from the folder of recordings. */
export const recordedScenarios = (): readonly string[] =>
  existsSync(FOLDER)
    ? readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.json'))
        .sort()
    : [];

interface ProtoJson {
  readonly fromJson: (type: unknown, json: unknown) => unknown;
}
interface ProtoRoot {
  lookupType(name: string): unknown;
}

/** From JSON to the messages that the worker takes, by the same copy of protobufjs that has the types. */
const parseHistory = (json: unknown): unknown => {
  const requireBesideProto = createRequire(require.resolve('@temporalio/proto'));
  const { fromJson } = requireBesideProto('protobufjs/ext/protojson') as ProtoJson;
  const root = requireBesideProto('../protos/root') as ProtoRoot;
  return fromJson(root.lookupType('temporal.api.history.v1.History'), json);
};

export const readHistories = (path: string): readonly RecordedHistory[] =>
  (JSON.parse(readFileSync(join(FOLDER, path), 'utf8')) as RecordedHistory[]).map((recorded) => ({
    ...recorded,
    history: parseHistory(recorded.history),
  }));

/** Stack traces hold paths of the machine, and no replay looks at them. */
const withoutStackTraces = (json: string): unknown =>
  JSON.parse(json, (key, value: unknown) => (key === 'stackTrace' ? '' : value));

interface HistoryJson {
  readonly events: readonly {
    readonly workflowExecutionStartedEventAttributes?: {
      readonly workflowType: { readonly name: string };
      readonly continuedExecutionRunId?: string;
    };
  }[];
}

const historyOf = async (address: string, workflowId: string, runId?: string) => {
  const which = ['--workflow-id', workflowId, ...(runId === undefined ? [] : ['--run-id', runId])];
  const { stdout } = await promisify(execFile)(
    temporalBinary(),
    ['workflow', 'show', '--address', address, '--output', 'json', ...which],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  const history = withoutStackTraces(stdout) as HistoryJson;
  const started = history.events[0]?.workflowExecutionStartedEventAttributes;
  const workflowType = started?.workflowType.name ?? '';
  const recorded: RecordedHistory = { workflowId, workflowType, history };
  return { recorded, before: started?.continuedExecutionRunId };
};

const historiesOf = async (
  address: string,
  rootId: string,
  subject: Subject,
): Promise<readonly RecordedHistory[]> => {
  const newest = await historyOf(address, rootId);
  const runs = [newest.recorded];
  for (let runId = newest.before; runId !== undefined && runId !== '';) {
    const { recorded, before } = await historyOf(address, rootId, runId);
    runs.unshift(recorded);
    runId = before;
  }
  const operations: RecordedHistory[] = [];
  for (const { id } of subject.operations()) {
    try {
      operations.push((await historyOf(address, id)).recorded);
    } catch (error) {
      // What was superseded before it began has no execution.
      if (!String(error).includes('not found')) throw error;
    }
  }
  return [...runs, ...operations];
};

const record = async (folder: string, name: string, scenario: Scenario): Promise<void> => {
  const { suggestContinueAsNewAfter, certificates } = scenario;
  const temporal = await startTemporal({
    realTimeouts: true,
    identity: IDENTITY,
    ...(suggestContinueAsNewAfter === undefined ? {} : { suggestContinueAsNewAfter }),
    ...(certificates === undefined ? {} : { certificates }),
  });
  try {
    const project = temporal.openProject();
    const subject = createSubject(project, 'shop');
    await scenario.run(subject, project);
    const rootId = scenario.rootId ?? microserviceWorkflowId({ project: project.name, name: subject.name });
    const text = JSON.stringify(await historiesOf(temporal.address, rootId, subject), null, 1);
    for (const word of [hostname(), resolve(__dirname, '..', '..')]) {
      if (text.includes(word)) throw new Error(`the recording of ${name} tells of this machine: ${word}`);
    }
    writeFileSync(join(folder, `${name}.json`), `${text}\n`);
    await project.close();
  } finally {
    await temporal.close();
  }
};

/**
 * @param names of scenarios
 * @returns the folder of the new recordings
 */
export const recordHistories = async (names: readonly string[]): Promise<string> => {
  mkdirSync(FOLDER, { recursive: true });
  const last = Math.max(0, ...readdirSync(FOLDER).map(Number).filter(Number.isInteger));
  const folder = join(FOLDER, String(last + 1).padStart(3, '0'));
  mkdirSync(folder);
  for (const name of names) {
    const scenario = SCENARIOS[name];
    if (!scenario) throw new Error(`there is no scenario ${name}`);
    await record(folder, name, scenario);
  }
  return folder;
};
