/** What is said of a replica while its engine does not answer. */

import type { ObservedContainer, ReplicaState } from '../../../../domain/model';
import type { RawMicroserviceSpec } from '../../../../domain/spec/schema';
import { noteFailure } from '../../../../workers/node/replica-traffic';
import { rememberReplica, upkeepOf, type NodeReplica } from '../../../../workers/node/node-memory';
import { stateUnseen } from '../../../../workers/node/unseen';
import { noteEnd, noteServing } from '../../../../workers/node/upkeep';
import { buildRelease } from '../../../support/builders';

const replicaOf = (spec: Partial<RawMicroserviceSpec> = {}): NodeReplica => {
  const release = buildRelease(1, spec);
  return rememberReplica(
    new Map(),
    { project: 'default', name: 'web', replicaId: 'web-1', release, operation: 'o' },
    0,
    'kept',
  );
};

const serving = (spec?: Partial<RawMicroserviceSpec>): NodeReplica => {
  const replica = replicaOf(spec);
  const upkeep = upkeepOf(replica, 'app');
  upkeep.run = 'c@1';
  noteServing(upkeep);
  return replica;
};

const container = (running: boolean): ObservedContainer => ({
  name: 'app',
  containerId: 'c',
  image: 'nginx:1.27',
  imageId: 'i',
  running,
  restartCount: 0,
});

const said = (replica: NodeReplica, state: ReplicaState, running = true) =>
  stateUnseen(replica, { state, reason: 'as before', containers: [container(running)] });

const fail = (replica: NodeReplica, failure: string | undefined) =>
  noteFailure(replica, 'app', failure, () => undefined);

const end = (replica: NodeReplica) => noteEnd(upkeepOf(replica, 'app'), replica, 1);

test('what serves goes on serving, as far as anybody knows', () => {
  expect(said(serving(), 'running').state).toBe('running');
  // A worker that was started anew while the engine was away knows nothing yet.
  expect(said(replicaOf(), 'running')).toEqual({ state: 'running', reason: 'as before' });
});

test('what fails its checks is unhealthy until it passes them', () => {
  const replica = serving();
  fail(replica, 'port 80 is closed');
  expect(said(replica, 'running')).toEqual({
    state: 'unhealthy',
    reason: 'port 80 is closed; the Docker Engine does not answer',
  });
  fail(replica, undefined);
  expect(said(replica, 'unhealthy')).toEqual({ state: 'running', reason: undefined });
});

test('what was unhealthy and never served does not become well by itself', () => {
  expect(said(replicaOf(), 'unhealthy')).toEqual({ state: 'unhealthy', reason: 'as before' });
});

test('what has ended and has to run is down', () => {
  const replica = serving();
  end(replica);
  expect(said(replica, 'running')).toEqual({
    state: 'restarting',
    reason: 'container app has ended, and the Docker Engine does not answer',
  });
});

test('of what may end, its end says nothing, nor does that of what had ended before', () => {
  const job = serving({ restart: { policy: 'on-failure' } });
  end(job);
  expect(said(job, 'running').state).toBe('running');
  const ended = serving();
  end(ended);
  expect(said(ended, 'running', false).state).toBe('running');
});

test.each<ReplicaState>([
  'starting',
  'restarting',
  'crash_looping',
  'paused',
  'exited',
  'broken',
  'stopping',
])('what was %s stays so', (state) => {
  const replica = serving();
  fail(replica, 'port 80 is closed');
  expect(said(replica, state)).toEqual({ state, reason: 'as before' });
});
