/** What the recorded histories tell: each scenario leads microservices through one part of their life. */

import { fakeDigest } from '../support/fake-cluster';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually, eventuallyValue } from '../support/wait';
import { createCertificates, want } from '../workflow/certificate-subject';
import { GOOD_IMAGE, specOf, type Subject } from '../workflow/subject';
import type { Project } from '../workflow/temporal';

import {
  CERTIFICATE_SIGNAL,
  certificateWorkflowId,
  type CertificateActivities,
} from '../../contracts/certificate-workflow';
import { CONTROL_PLANE_QUEUE } from '../../contracts/queues';
import { CLUSTER_WORKFLOW_ID, SIGNAL, WORKFLOW, microserviceWorkflowId } from '../../contracts/workflows';

export interface Scenario {
  readonly run: (subject: Subject, project: Project) => Promise<void>;
  /** What workflows of certificates ask. */
  readonly certificates?: CertificateActivities;
  /** The execution that it is about; the subject's entity when left out. */
  readonly rootId?: string;
  /** Events after which the server suggests to continue as new. */
  readonly suggestContinueAsNewAfter?: number;
}

const certificates = createCertificates();

/** Lives through what a hostname's certificate can live through, and is gone. */
const certificateLife = (hostname: string): Scenario => {
  const host = certificates.host(hostname);
  return {
    certificates: certificates.activities,
    rootId: certificateWorkflowId(hostname),
    run: async (_subject, { client }) => {
      const handle = client.workflow.getHandle(certificateWorkflowId(hostname));
      const journaled = (line: string) => eventually(() => expect(host.journal.join('\n')).toContain(line));
      let orders = 0;
      host.on.orderCertificate = async ({ directory }) => {
        orders += 1;
        if (orders === 1) return { kind: 'failed', failure: { kind: 'authority', message: 'away' } };
        if (orders === 2) {
          return { kind: 'limited', failure: { kind: 'rate_limited', message: 'its turn' } };
        }
        return { kind: 'ordered', url: `${directory}/order` };
      };
      host.on.proveHostname = async () => {
        delete host.on.proveHostname;
        return { kind: 'failed', failure: { kind: 'pointing', message: 'elsewhere' }, isCounted: true };
      };
      await want(client, hostname);
      await journaled('tellCertificateState issued');
      await handle.signal(CERTIFICATE_SIGNAL.retryNow);
      host.isHeld = false;
      await handle.signal(CERTIFICATE_SIGNAL.retryNow);
      await eventually(() =>
        expect(host.journal.filter((line) => line.startsWith('tellCertificateIssued'))).toHaveLength(2),
      );
      host.isWanted = false;
      await handle.signal(CERTIFICATE_SIGNAL.hostnameGone);
      await handle.result();
    },
  };
};

const BAD = { kind: 'unhealthy', reason: 'app ended with status 3', logTail: ['boom'] } as const;

const holdingStarts = async (project: Project, begin: () => Promise<unknown>) => {
  const hold = project.cluster.holdStarts();
  await begin();
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  return hold;
};

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  certificate: certificateLife('shop.example.org'),
  'certificate-continued-as-new': {
    ...certificateLife('long.example.org'),
    suggestContinueAsNewAfter: 25,
  },
  life: {
    run: async (subject) => {
      const change = { idempotencyKey: 'k1', requestHash: 'h1' };
      await subject.apply({ scale: 2, hostnames: ['a.example.com'], ...change });
      await subject.apply({ scale: 2, hostnames: ['a.example.com'], ...change });
      await subject.steady(2, 1);
      await subject.ended(await subject.scale(3));
      await subject.applied({ image: 'shop:2', hostnames: ['b.example.com'] });
      await subject.ended(await subject.restart());
      await subject.ended(await subject.rollback());
      await subject.steady(3, 3);
      await subject.remove();
      await subject.gone();
    },
  },
  digests: {
    run: async (subject, { cluster }) => {
      cluster.setLocalImage('local:1', { a: fakeDigest('local:1') });
      cluster.addNode('a', { images: ['local:1'] });
      await subject.applied({ image: 'shop:1' });
      cluster.setDigest('shop:1', fakeDigest('later'));
      await subject.ended(await subject.redeploy());
      await subject.ended(await subject.rollback());
      await subject.applied({ image: 'local:1' });
      await subject.steady(1, 4);
    },
  },
  'first-run': {
    run: async (subject) => {
      await subject.applied({ scale: 0 });
      await subject.steady(0);
      await subject.ended(await subject.scale(2));
      await subject.steady(2, 1);
    },
  },
  superseded: {
    run: async (subject, project) => {
      const hold = await holdingStarts(project, () => subject.apply({ scale: 3 }));
      await Promise.all([5, 0, 5].map((scale) => subject.scale(scale)));
      await subject.scale(2);
      hold.release();
      await subject.steady(2, 1);
    },
  },
  'rolled-back': {
    run: async (subject, project) => {
      await subject.applied({ scale: 2 });
      project.cluster.setImage('shop:bad', BAD);
      await subject.applied({ image: 'shop:bad' });
      await subject.steady(2, 1);
    },
  },
  'failed-first': {
    run: async (subject, project) => {
      project.cluster.setImage('shop:bad', { ...BAD, leaves: 'broken' });
      await subject.applied({ image: 'shop:bad' });
      await eventually(() => expect(subject.operations().length).toBeGreaterThan(2));
      project.cluster.setImage('shop:bad', { kind: 'healthy' });
      await subject.steady(1, 1);
    },
  },
  'job-failed': {
    run: async (subject, project) => {
      project.cluster.setImage('shop:bad', { ...BAD, leaves: 'broken' });
      await subject.applied({ spec: { ...specOf('shop:bad'), restart: { policy: 'never' } } });
      await subject.signal();
      await subject.ended(await subject.restart());
      await subject.applied();
      await subject.steady(1, 2);
    },
  },
  'pull-failed-late': {
    run: async (subject, project) => {
      let fail: () => void = () => undefined;
      const after = new Promise<void>((resolve) => {
        fail = resolve;
      });
      project.cluster.setImage('shop:away', { kind: 'unreachable', after });
      const pulling = await subject.apply({ image: 'shop:away' });
      await eventually(() => expect(project.cluster.resolved.at(-1)).toMatch(/: shop:away$/));
      await subject.apply({ image: 'shop:2' });
      await eventually(async () => {
        const { events } = await project.client.workflow.getHandle(pulling.operation.id).fetchHistory();
        expect(events?.some((event) => event.activityTaskCancelRequestedEventAttributes)).toBe(true);
      });
      fail();
      await subject.steady(1, 2);
    },
  },
  refused: {
    run: async (subject, project) => {
      for (const node of ['a', 'b', 'c']) project.cluster.refuse(node, 'memory is low');
      await subject.applied();
      project.cluster.refuse('b', undefined);
      await subject.steady(1, 1);
    },
  },
  'no-build': {
    run: async (subject, project) => {
      const { cluster } = project;
      for (const node of ['a', 'b']) cluster.addNode(node, { architecture: 'arm64' });
      cluster.setImage('shop:amd64', { kind: 'built-for', architectures: ['amd64'] });
      cluster.setImage('shop:silent', { kind: 'runs-on', architecture: 'amd64' });
      await subject.applied({ scale: 3, image: 'shop:amd64' });
      await subject.applied({ scale: 3, image: 'shop:silent' });
      await subject.steady(3, 2);
    },
  },
  healed: {
    run: async (subject, project) => {
      await subject.applied({ scale: 2 });
      await subject.steady(2);
      project.cluster.loseReplica(subject.replicas()[0]?.id ?? '');
      await subject.signal();
      await eventually(() => expect(subject.running()).toHaveLength(2));
      await subject.steady(2, 1);
    },
  },
  levelled: {
    run: async (subject, { cluster }) => {
      const onC = () => subject.running().filter(({ nodeId }) => nodeId === 'c').length;
      cluster.setUp('c', false);
      await subject.applied({ scale: 6 });
      await subject.steady(6, 1);
      cluster.setUp('c', true);
      await subject.signal();
      await eventually(() => expect(onC()).toBeGreaterThan(0));
      await subject.steady(6, 1);
      await subject.signal(); // before 'level-until-even' the second one waited for it
      await eventually(() => expect(onC()).toBe(2));
      await subject.steady(6, 1);
    },
  },
  'node-lost': {
    run: async (subject, project) => {
      const { cluster, client } = project;
      await subject.applied();
      await subject.steady(1, 1);
      const hold = await holdingStarts(project, () => subject.apply({ image: 'shop:2' }));
      const lost = subject.replicas().find(({ release }) => release === 2)?.nodeId ?? '';
      cluster.setUp(lost, false);
      const key = { project: project.name, name: subject.name };
      await client.workflow
        .getHandle(microserviceWorkflowId(key))
        .signal(SIGNAL.observedChanged, { reason: `node ${lost} is lost`, lostNodes: [lost] });
      await eventuallyValue(
        () => hold.waiting,
        (waiting) => waiting > 1,
      );
      hold.release();
      await eventually(() => expect(subject.operations().at(-1)).toMatchObject({ state: 'succeeded' }));
      cluster.setUp(lost, true);
      await subject.signal();
      await subject.steady(1, 2);
    },
  },
  'interrupted-by-loss': {
    run: async (subject, project) => {
      const { cluster, client } = project;
      await subject.applied({ scale: 3 });
      await subject.steady(3, 1);
      const lose = async (nodeId: string) => {
        cluster.setUp(nodeId, false);
        await client.workflow
          .getHandle(microserviceWorkflowId({ project: project.name, name: subject.name }))
          .signal(SIGNAL.observedChanged, { reason: `node ${nodeId} is lost`, lostNodes: [nodeId] });
      };
      cluster.setAvailability('c', 'cordoned');
      const hold = await holdingStarts(project, () => lose('a'));
      cluster.setAvailability('c', 'active');
      await lose('c');
      await eventuallyValue(
        () => hold.waiting,
        (waiting) => waiting === 2,
      );
      hold.release();
      await eventually(() => expect(subject.running()).toHaveLength(5));
      for (const nodeId of ['a', 'c']) cluster.setUp(nodeId, true);
      await subject.signal();
      await subject.steady(3, 1);
    },
  },
  'healed-elsewhere': {
    run: async (subject, project) => {
      const { cluster } = project;
      cluster.setUp('c', false);
      await subject.applied({ scale: 2 });
      await subject.steady(2, 1);
      cluster.setUp('c', true);
      cluster.setImage(GOOD_IMAGE, { kind: 'unreachable' });
      cluster.setUp('a', false);
      await subject.signal();
      await eventually(() => expect(subject.running()).toHaveLength(3));
      cluster.setUp('a', true);
      await subject.signal();
      await subject.steady(2, 1);
    },
  },
  'fits-nowhere': {
    run: async (subject, project) => {
      project.cluster.addNode('a', { labels: { disk: 'ssd' } });
      await subject.applied({
        spec: { ...specOf(GOOD_IMAGE, ['a.example.com']), constraints: { disk: 'ssd' } },
      });
      project.cluster.setUp('a', false);
      await subject.signal();
      await subject.documented(({ state }) => state === 'failed');
      project.cluster.setUp('a', true);
      await subject.steady(1, 1);
    },
  },
  watch: {
    rootId: CLUSTER_WORKFLOW_ID,
    run: async (_subject, { client }) => {
      const watch = await client.workflow.start(WORKFLOW.cluster, {
        workflowId: CLUSTER_WORKFLOW_ID,
        taskQueue: CONTROL_PLANE_QUEUE,
      });
      await eventually(async () => {
        const { events } = await watch.fetchHistory();
        const begun = (events ?? []).filter((event) => event.activityTaskScheduledEventAttributes);
        expect(begun.length).toBeGreaterThan(3);
      });
      await watch.terminate();
    },
  },
  /** A deploy while the release before the last one is kept, and back to the last one. */
  switched: {
    run: async (subject) => {
      const kept = (image: string) => ({
        spec: {
          ...specOf(image, ['a.example.com']),
          update: { strategy: 'blue-green' as const, keepOldSeconds: 600 },
        },
      });
      const isSwitched = ({ message }: { readonly message: string }) =>
        message.startsWith('stage 2 of 2: switch all requests');
      await subject.applied({ scale: 2, hostnames: ['a.example.com'] });
      await subject.recorded(await subject.apply(kept('shop:2')), isSwitched);
      const third = await subject.apply(kept('shop:3'));
      await subject.recorded(third, isSwitched);
      await subject.steer('abort');
      expect(await subject.ended(third)).toMatchObject({ state: 'rolled_back' });
      await subject.steady(2, 2);
    },
  },
  'in-stages': {
    run: async (subject) => {
      const inStages = (update: NonNullable<RawMicroserviceSpec['update']>, image: string) => ({
        spec: { ...specOf(image, ['a.example.com']), update },
      });
      const weightOf = (release: number, weight: number) =>
        eventually(() => expect(subject.weights()?.[release]).toBe(weight));
      await subject.applied({ scale: 2, hostnames: ['a.example.com'] });
      const canary = await subject.apply(
        inStages({ strategy: 'canary', steps: [{ weight: 20, seconds: 600 }] }, 'shop:2'),
      );
      await weightOf(2, 20);
      await subject.steer('pause');
      await subject.recorded(canary, ({ state }) => state === 'paused');
      const lost = subject.running().find(({ release }) => release === 1);
      await subject.steer('resume');
      await subject.signal();
      expect(lost).toBeDefined();
      await subject.steer('promote');
      await subject.ended(canary);
      const green = inStages({ strategy: 'blue-green', keepOldSeconds: 600 }, 'shop:3');
      const first = await subject.apply(green);
      await weightOf(3, 100);
      await subject.scale(3);
      await subject.ended(first);
      await eventually(() => expect(subject.running()).toHaveLength(6));
      await subject.steer('abort');
      await subject.steady(3, 2);
      const last = await subject.apply(inStages({ strategy: 'blue-green', promote: 'manual' }, 'shop:4'));
      await subject.recorded(last, ({ state }) => state === 'paused');
      await subject.applied({ image: 'shop:5', hostnames: ['a.example.com'] });
      await subject.steady(3, 5);
      await subject.ended(await subject.redeploy());
      await subject.steady(3, 6);
    },
  },
  /** What is paused has another scale, what is lost comes back meanwhile, and what is over may be started again. */
  'paused-and-rescaled': {
    run: async (subject, { cluster }) => {
      const hostnames = ['a.example.com'];
      await subject.applied({ scale: 2, hostnames });
      cluster.setImage('shop:2', { kind: 'unreachable' });
      const update = {
        strategy: 'canary',
        judge: false,
        deadlineSeconds: 600,
        steps: [{ weight: 20, seconds: 600 }],
      } as const;
      const canary = await subject.apply({
        spec: { ...specOf('shop:2', hostnames), update: { ...update, steps: [...update.steps] } },
      });
      await eventually(() => expect(cluster.resolved.some((line) => line.includes('shop:2'))).toBe(true));
      await subject.steer('pause');
      await subject.recorded(canary, ({ state }) => state === 'paused');
      cluster.loseReplica(subject.running()[0]?.id ?? '');
      await subject.signal();
      await eventually(() => expect(subject.running()).toHaveLength(2));
      const scale = await subject.scale(3);
      await eventually(() => expect(subject.running()).toHaveLength(3));
      cluster.setImage('shop:2', { kind: 'healthy' });
      await subject.steer('resume');
      await eventually(() => expect(subject.weights()?.[2]).toBe(20));
      cluster.loseReplica(subject.running().find(({ release }) => release === 1)?.id ?? '');
      await subject.signal();
      await eventually(() => expect(subject.running()).toHaveLength(4));
      await expect(subject.restart()).rejects.toThrow('in stages');
      await subject.steer('promote');
      await subject.ended(scale);
      await subject.ended(await subject.restart());
      await subject.steady(3, 2);
    },
  },
  'deadline-and-pause': {
    run: async (subject, project) => {
      await subject.applied({ scale: 2 });
      const late = await holdingStarts(project, () =>
        subject.apply({ spec: { ...specOf('shop:2'), update: { deadlineSeconds: 1 } } }),
      );
      await subject.documented(({ state, release }) => state === 'steady' && release.number === 1);
      late.release();
      await subject.steady(2, 1);
      const hold = await holdingStarts(project, () => subject.apply({ image: 'shop:3' }));
      await subject.steer('pause');
      hold.release();
      await subject.documented(({ message }) => message.includes('is paused'));
      await subject.steer('resume');
      await subject.steady(2, 3);
    },
  },
  'consul-away': {
    run: async (subject, project) => {
      const { store } = project.cluster;
      await subject.applied({ hostnames: ['a.example.com'] });
      store.away = true;
      const changes = [subject.scale(2), subject.apply({ hostnames: ['b.example.com'] })];
      await eventually(() => expect(store.failures).toBeGreaterThan(3));
      store.away = false;
      await Promise.all(changes);
      await subject.steady(2, 2);
    },
  },
  cancelled: {
    run: async (subject, project) => {
      const { client } = project;
      const hold = await holdingStarts(project, () => subject.apply());
      await client.workflow.getHandle(subject.document()?.operation ?? '').cancel();
      await subject.documented(({ state }) => state === 'failed');
      const key = { project: project.name, name: subject.name };
      await client.workflow.getHandle(microserviceWorkflowId(key)).cancel();
      hold.release();
      await subject.ended(await subject.scale(2));
      await subject.steady(2, 1);
    },
  },
  'applied-during-removal': {
    run: async (subject, project) => {
      await subject.applied({ scale: 2, hostnames: ['a.example.com'] });
      await subject.steady(2);
      const hold = project.cluster.store.holdWrites((operations) =>
        operations.some(({ kind }) => kind === 'deletePrefix'),
      );
      await subject.remove();
      await eventuallyValue(
        () => hold.waiting,
        (waiting) => waiting > 0,
      );
      const applying = subject.apply({ hostnames: ['a.example.com'] });
      hold.release();
      await applying;
      await subject.steady(1, 1);
    },
  },
  'continued-as-new': {
    suggestContinueAsNewAfter: 40,
    run: async (subject) => {
      await subject.applied({ image: 'shop:1' });
      await subject.applied({ image: 'shop:2' });
      for (const scale of [2, 3, 1]) await subject.ended(await subject.scale(scale));
      await subject.rollback();
      await subject.steady(1, 3);
    },
  },
};
