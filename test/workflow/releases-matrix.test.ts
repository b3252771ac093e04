/** What changes and commands do to a release that is under way: by its strategy, and by how far it is. */

import type { ChangeAccepted } from '../../contracts/workflows';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually, eventuallyValue } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const FOREVER = 86_400;
const HOSTNAMES = ['shop.example.com'];

type Update = NonNullable<RawMicroserviceSpec['update']>;
type Command = 'promote' | 'abort' | 'pause' | 'resume' | 'deploy' | 'scale' | 'restart' | 'rollback';

/** v1 runs at scale 2, and v2 is under way. */
interface Situation {
  readonly update: Update;
  /** Brings v2 there. */
  readonly reach: (subject: Subject, deploy: ChangeAccepted) => Promise<void>;
  /** Whether its new replicas are kept from being healthy until the command has been given. */
  readonly isStarting?: true;
  /** How it goes on to its end, where it would wait for somebody. */
  readonly finish?: (subject: Subject) => Promise<unknown>;
}

const isPaused = (subject: Subject, deploy: ChangeAccepted) =>
  subject.recorded(
    deploy,
    ({ state, message }) => state === 'paused' && /^(paused|v2 is paused)/.test(message),
  );

const weights = (one: number, two: number) => (subject: Subject) =>
  eventually(() => expect(subject.weights()).toEqual({ 1: one, 2: two }));

const thenPaused =
  (reach: Situation['reach']): Situation['reach'] =>
  async (subject, deploy) => {
    await reach(subject, deploy);
    await subject.steer('pause');
    await isPaused(subject, deploy);
  };

/** Between two of its batches. */
const pausedAtOnce: Situation['reach'] = async (subject, deploy) => {
  const { cluster } = use.project;
  const hold = cluster.holdStarts();
  await eventually(() => expect(hold.waiting).toBeGreaterThan(0));
  await subject.steer('pause');
  hold.release();
  await isPaused(subject, deploy);
};

const promoted = (subject: Subject) => subject.steer('promote');

const CANARY: Update = { strategy: 'canary', judge: false, steps: [{ weight: 20, seconds: FOREVER }] };
const BY_HAND: Update = { strategy: 'blue-green', promote: 'manual', keepOldSeconds: 0 };
const KEPT: Update = { strategy: 'blue-green', keepOldSeconds: FOREVER };

const waitsForPromotion: Situation['reach'] = async (subject, deploy) => {
  await subject.recorded(deploy, ({ message }) => message.endsWith('until it is promoted'));
};
const started: Situation['reach'] = async () => undefined;

const SITUATIONS = {
  'rolling, starting': { update: {}, isStarting: true, reach: started },
  'rolling, paused': { update: { maxSurge: 1 }, reach: pausedAtOnce },
  'recreate, starting': { update: { strategy: 'recreate' }, isStarting: true, reach: started },
  'blue-green, starting': { update: BY_HAND, isStarting: true, reach: started, finish: promoted },
  'blue-green, ready': { update: BY_HAND, reach: waitsForPromotion, finish: promoted },
  'blue-green, ready and paused': {
    update: BY_HAND,
    reach: thenPaused(waitsForPromotion),
    finish: promoted,
  },
  'blue-green, switched': { update: KEPT, reach: weights(0, 100) },
  'canary, starting': { update: CANARY, isStarting: true, reach: started, finish: promoted },
  'canary, in its step': { update: CANARY, reach: weights(80, 20), finish: promoted },
  'canary, paused in its step': { update: CANARY, reach: thenPaused(weights(80, 20)), finish: promoted },
} as const satisfies Readonly<Record<string, Situation>>;

type Outcome =
  /** It is refused, in such words, and goes on. */
  | { readonly refused: string }
  /** v2 ends like this, and then so many replicas of this release run. */
  | {
      readonly ends: 'succeeded' | 'rolled_back' | 'superseded';
      readonly release: number;
      readonly scale?: number;
    }
  /** It is paused, and goes on when it is resumed. */
  | 'pauses'
  /** The old release has the new scale, and v2 is paused still. */
  | 'stays paused';

const IN_STAGES = 'takes over from v1 in stages';
const ROLLS: Readonly<Record<Command, Outcome>> = {
  promote: { refused: 'does not take over in stages' },
  abort: { ends: 'rolled_back', release: 1 },
  pause: 'pauses',
  resume: { refused: 'is not paused' },
  deploy: { ends: 'superseded', release: 3 },
  scale: { ends: 'superseded', release: 2, scale: 3 },
  restart: { ends: 'superseded', release: 2 },
  rollback: { ends: 'superseded', release: 3 },
};
const IN_A_STAGE: typeof ROLLS = {
  ...ROLLS,
  promote: { ends: 'succeeded', release: 2 },
  restart: { refused: IN_STAGES },
};
const WAITING: typeof ROLLS = { ...IN_A_STAGE, resume: { refused: 'waits to be promoted' } };
const PAUSED: typeof ROLLS = {
  ...IN_A_STAGE,
  pause: { refused: 'is paused already' },
  resume: { ends: 'succeeded', release: 2 },
  scale: 'stays paused',
};

const EXPECTED: Readonly<Record<keyof typeof SITUATIONS, typeof ROLLS>> = {
  'rolling, starting': ROLLS,
  'rolling, paused': { ...PAUSED, promote: ROLLS.promote, restart: ROLLS.restart },
  'recreate, starting': { ...ROLLS, pause: { refused: 'nothing would run' } },
  'blue-green, starting': IN_A_STAGE,
  'blue-green, ready': WAITING,
  'blue-green, ready and paused': PAUSED,
  'blue-green, switched': { ...IN_A_STAGE, promote: { refused: 'gets all requests already' } },
  'canary, starting': IN_A_STAGE,
  'canary, in its step': IN_A_STAGE,
  'canary, paused in its step': PAUSED,
};

const COMMANDS: Readonly<Record<Command, (subject: Subject) => Promise<ChangeAccepted>>> = {
  promote: (subject) => subject.steer('promote'),
  abort: (subject) => subject.steer('abort'),
  pause: (subject) => subject.steer('pause'),
  resume: (subject) => subject.steer('resume'),
  deploy: (subject) => subject.apply({ image: 'shop:3', hostnames: HOSTNAMES }),
  scale: (subject) => subject.scale(3),
  restart: (subject) => subject.restart(),
  rollback: (subject) => subject.rollback(),
};

const CASES = Object.entries(EXPECTED).flatMap(([name, outcomes]) =>
  Object.entries(outcomes).map(
    ([command, outcome]) => [command as Command, name as keyof typeof SITUATIONS, outcome] as const,
  ),
);

const settled = async (situation: Situation) => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, hostnames: HOSTNAMES });
  await subject.steady(2, 1);
  const hold = situation.isStarting === true ? use.project.cluster.holdStarts() : undefined;
  const deploy = await subject.apply({ spec: { ...specOf('shop:2', HOSTNAMES), update: situation.update } });
  if (hold) {
    await eventuallyValue(
      () => hold.waiting,
      (waiting) => waiting > 0,
    );
  }
  await situation.reach(subject, deploy);
  return { subject, deploy, goOn: () => hold?.release() };
};

test.each(CASES)('%s of a release that is %s', async (command, name, outcome) => {
  const situation: Situation = SITUATIONS[name];
  const { subject, deploy, goOn } = await settled(situation);
  const giving = COMMANDS[command](subject);
  if (typeof outcome === 'object' && 'refused' in outcome) {
    await expect(giving).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining(outcome.refused) as string,
    });
    goOn();
    return;
  }
  const accepted = await giving;
  if (typeof outcome === 'object' && outcome.ends === 'superseded') await subject.ended(deploy);
  goOn();
  if (outcome === 'stays paused') {
    expect(await subject.ended(deploy)).toMatchObject({ state: 'superseded' });
    await isPaused(subject, accepted);
    const v2 = subject.running().filter(({ release }) => release === 2).length;
    const together = situation.finish === undefined ? 3 : 3 + v2;
    await eventually(() => expect(subject.running()).toHaveLength(together));
    expect(subject.running().filter(({ release }) => release === 2)).toHaveLength(v2);
    await subject.steer('resume');
    await situation.finish?.(subject);
    expect(await subject.ended(accepted)).toMatchObject({ state: 'succeeded' });
    await subject.steady(3, 2);
    return;
  }
  if (outcome === 'pauses') {
    await isPaused(subject, deploy);
    expect(subject.running().filter(({ release }) => release === 1)).toHaveLength(2);
    await subject.steer('resume');
    if (name === 'blue-green, switched') return;
    await situation.finish?.(subject);
    expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
    await subject.steady(2, 2);
    return;
  }
  const { ends, release, scale = 2 } = outcome;
  if (ends === 'superseded') {
    expect(await subject.ended(deploy)).toMatchObject({ state: ends });
    if (release === 2) {
      // The same release goes on where it was.
      if (name === 'blue-green, switched') {
        await weights(0, 100)(subject);
        return;
      }
      if (situation.finish) await eventually(() => situation.finish?.(subject));
    }
    expect(await subject.ended(accepted)).toMatchObject({ state: 'succeeded' });
  } else {
    if (command === 'resume') await situation.finish?.(subject);
    expect(await subject.ended(deploy)).toMatchObject({ state: ends });
  }
  expect(await subject.steady(scale, release)).toMatchObject({ settledRelease: release });
  expect(subject.weights()).toBeUndefined();
});
