// What the processes of the product load, out of dist/: a machine that has joined has a few hundred MB for all of them.
import { join } from 'node:path';

import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';

import { projectRoot, runCommand } from '../support/process';
import type { NodeTask } from '../workflow/node-task-subject';
import { temporalBinary } from '../workflow/temporal-binary';
import { workflowBundle } from '../workflow/workflow-bundle';

const DIST = join(projectRoot(), 'dist', 'workers');

/** Packages, and folders of our own, of which something is loaded when the code has run. */
const loadedBy = async (code: string): Promise<readonly string[]> => {
  const tell = `
    const told = (file) => /.*node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(file)?.[1];
    const packages = new Set(Object.keys(require.cache).map(told).filter(Boolean));
    process.stdout.write(JSON.stringify([...packages].sort()), () => process.exit(0));`;
  const { stdout } = await runCommand(process.execPath, [
    '-e',
    `const load = (file) => require(${JSON.stringify(`${DIST}/`)} + file);
    (async () => { ${code} ${tell} })().catch((error) => { console.error(error); process.exit(1); });`,
  ]);
  return JSON.parse(stdout) as string[];
};

/** What a node has no use for, each with the megabytes that it takes. */
const NOT_FOR_NODES = [
  'zod',
  'webpack',
  'memfs',
  'source-map',
  'ssh2',
  '@grpc/grpc-js',
  '@grpc/proto-loader',
  '@temporalio/workflow',
  'pino-pretty',
  'tar-stream',
];

const ACTIVITIES = 'loaded-modules-activities';
const WORKFLOWS = 'loaded-modules-workflows';

let temporal: TestWorkflowEnvironment;
let workflows: Worker;
let ended: Promise<void>;

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
  const workflowsPath = join(__dirname, '..', 'workflow', 'node-task-subject.ts');
  const codePath = await workflowBundle({ workflowsPath });
  temporal = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'existing-path', path: temporalBinary() },
      ip: '127.0.0.1',
      log: { format: 'pretty', level: 'never' },
    },
  });
  workflows = await Worker.create({
    connection: temporal.nativeConnection,
    taskQueue: WORKFLOWS,
    workflowBundle: { codePath },
    workflowThreadPoolSize: 1,
  });
  ended = workflows.run();
}, 60_000);
afterAll(async () => {
  workflows.shutdown();
  await ended;
  await temporal.teardown();
}, 60_000);

const giveTask = (task: NodeTask) =>
  temporal.client.workflow.execute('giveTasks', {
    taskQueue: WORKFLOWS,
    workflowId: `loaded-modules-${task.kind}`,
    args: [ACTIVITIES, task],
  });

test('a node worker has loaded nothing that only others need, also when it has run activities', async () => {
  const loaded = loadedBy(`
    load('late-modules.js').loadLate();
    load('node-role.js');
    const logger = await load('logger.js').createLogger({ logLevel: 'fatal', logFormat: 'json' }, 'node');
    const { installTemporalRuntime, startTemporalWorker } = load('temporal-worker.js');
    installTemporalRuntime(logger);
    let worker;
    await new Promise((resolve) => {
      worker = startTemporalWorker({
        address: ${JSON.stringify(temporal.address)},
        logger,
        options: async (connection) => ({
          connection,
          taskQueue: '${ACTIVITIES}',
          activities: {
            fail: async () => { throw new Error('as it was told'); },
            echo: async (text) => { resolve(); return text; },
          },
          shutdownGraceTime: '2s',
        }),
        onPolling: () => undefined,
      });
    });
    await worker.stop();`);
  expect(await giveTask({ kind: 'fail' })).toEqual([expect.stringContaining('as it was told')]);
  expect(await giveTask({ kind: 'echo', texts: ['done'] })).toEqual(['done']);
  expect(await loaded).toEqual(expect.arrayContaining(['@temporalio/worker', 'dockerode', 'rxjs']));
  expect((await loaded).filter((name) => NOT_FOR_NODES.includes(name))).toEqual([]);
});

test('a supervisor has loaded nothing but what writes its log', async () => {
  const loaded = await loadedBy(`
    await load('logger.js').createLogger({ logLevel: 'warn', logFormat: 'json' }, 'up');
    load('up/up.js');
    load('cluster/run-member.js');`);
  const ofLog = ['@pinojs/redact', 'pino', 'safe-stable-stringify', 'sonic-boom', 'thread-stream'];
  expect(loaded).toEqual(expect.arrayContaining(ofLog));
  expect(loaded.length).toBeLessThan(12);
});

test('what is loaded late is there when it is used', async () => {
  const loaded = await loadedBy(`
    load('late-modules.js').loadLate();
    const { bundleWorkflowCode, DefaultLogger } = require('@temporalio/worker');
    const { map, of } = require('rxjs');
    const Docker = require('dockerode');
    let doubled;
    of(21).pipe(map((one) => one * 2)).subscribe((value) => { doubled = value; });
    if (doubled !== 42) throw new Error('rxjs gives ' + doubled);
    const { code } = await bundleWorkflowCode({
      workflowsPath: ${JSON.stringify(join(projectRoot(), 'workflows', 'index.ts'))},
      logger: new DefaultLogger('ERROR'),
    });
    if (!code.includes('microserviceWorkflow')) throw new Error('the bundle has no workflows');
    await new Docker({ protocol: 'ssh', host: '127.0.0.1', port: 1, username: 'nobody' }).ping().catch(() => undefined);`);
  expect(loaded).toEqual(expect.arrayContaining(['webpack', 'memfs', 'rxjs', 'ssh2']));
});
