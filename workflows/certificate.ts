/**
 * The certificate of one public hostname: gets it, renews it in time, and tries again for as long as a microservice has
 * the hostname (docs/decisions/acme.md).
 *
 * Invariants: it never gives up by itself, and touches no other hostname; an order that was placed is gone on with after
 * the loss of any worker; what was published to prove the hostname is taken back, whatever happens; it ends when nobody
 * has the hostname, and asks nothing of anybody from then on.
 */

import {
  CancellationScope,
  ActivityFailure,
  condition,
  continueAsNew,
  defineSignal,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';

import {
  CERTIFICATE_SIGNAL,
  type CarriedCertificate,
  type CertificateActivities,
  type CertificateInput,
  type CertificateLook,
  type FinishOutcome,
  type OrderUnderWay,
  type ToldState,
} from '../contracts/certificate-workflow';
import { CERTIFICATE } from '../contracts/timeouts';
import { mayAnotherAuthorityDo, timeText, type IssueFailure } from '../domain/certificates/acme-problem';
import { asksAnyway } from '../domain/certificates/renewal';

const intervals = {
  initialInterval: CERTIFICATE.retryFirstIntervalMs,
  maximumInterval: CERTIFICATE.retryMaxIntervalMs,
};
const patient = {
  startToCloseTimeout: CERTIFICATE.lookStartToCloseMs,
  retry: intervals,
};
const tried = {
  startToCloseTimeout: CERTIFICATE.stepStartToCloseMs,
  heartbeatTimeout: CERTIFICATE.heartbeatMs,
  retry: { ...intervals, maximumAttempts: CERTIFICATE.stepAttempts },
};

const look = proxyActivities<CertificateActivities>({ ...patient, summary: 'look what is to be done' });
const tell = proxyActivities<CertificateActivities>({ ...patient, summary: 'publish how it stands' });
const undo = proxyActivities<CertificateActivities>({ ...patient, summary: 'take back what was published' });
const check = proxyActivities<CertificateActivities>({
  ...tried,
  summary: 'look whether the hostname leads here',
});
const order = proxyActivities<CertificateActivities>({ ...tried, summary: 'order' });
const finish = proxyActivities<CertificateActivities>({
  ...tried,
  summary: 'have it certified, and keep it',
});
const prove = proxyActivities<CertificateActivities>({
  ...tried,
  startToCloseTimeout: CERTIFICATE.proofStartToCloseMs,
  summary: 'prove the hostname',
});

export const hostnameWantedSignal = defineSignal(CERTIFICATE_SIGNAL.hostnameWanted);
export const hostnameGoneSignal = defineSignal(CERTIFICATE_SIGNAL.hostnameGone);
export const retryNowSignal = defineSignal(CERTIFICATE_SIGNAL.retryNow);

type Due = CertificateLook & { readonly kind: 'due' };

type Attempt =
  | (FinishOutcome & { readonly kind: 'issued' })
  | {
      readonly kind: 'failed';
      readonly failure: IssueFailure;
      readonly isCounted: boolean;
      readonly isWaiting: boolean;
    };

const failed = (failure: IssueFailure, isCounted = false, isWaiting = false): Attempt => ({
  kind: 'failed',
  failure,
  isCounted,
  isWaiting,
});

/** What two authorities said, as one: it is tried again when the first of them may do it. */
const both = (first: Attempt, second: Attempt): Attempt => {
  if (first.kind === 'issued' || second.kind === 'issued') return second;
  const times = [first.failure.notBeforeMs, second.failure.notBeforeMs].filter((atMs) => atMs !== undefined);
  return {
    kind: 'failed',
    failure: {
      kind: second.failure.kind === 'authority' ? 'authority' : first.failure.kind,
      message: `${first.failure.message} ${second.failure.message}`,
      ...(times.length < 2 ? {} : { notBeforeMs: Math.min(...times) }),
    },
    isCounted: first.isCounted || second.isCounted,
    isWaiting: first.isWaiting && second.isWaiting,
  };
};

/** What is none of the expected: a defect, or Consul away for longer than a step is tried. */
const unexpected = (error: unknown): Attempt => {
  if (!(error instanceof ActivityFailure) || isCancellation(error)) throw error;
  return failed({
    kind: 'internal',
    message: `${error.cause?.message ?? error.message}. It is tried again; see this run in the Temporal Web UI.`,
  });
};

export async function certificateWorkflow({ hostname, carried }: CertificateInput): Promise<void> {
  let { failures, order: underWay, told }: CarriedCertificate = carried ?? { failures: 0 };
  let wanted = 0;
  /** How often it was said that nobody has it, and how often that was looked into. */
  let gone = 0;
  let goneSeen = 0;
  let isWoken = false;
  let asking: CancellationScope | undefined;

  setHandler(hostnameWantedSignal, () => {
    wanted += 1;
  });
  setHandler(hostnameGoneSignal, () => {
    gone += 1;
    isWoken = true;
    asking?.cancel();
  });
  setHandler(retryNowSignal, () => {
    isWoken = true;
  });

  /** Until then, or until somebody has something to say. */
  const rest = async (untilMs: number): Promise<void> => {
    await condition(() => isWoken, Math.max(1, Math.ceil(untilMs - Date.now())));
  };

  const show = async (state: Omit<ToldState, 'hostname' | 'failures'>): Promise<void> => {
    setCurrentDetails(state.message);
    const text = JSON.stringify(state);
    if (text === told) return;
    await tell.tellCertificateState({ hostname, failures, ...state });
    told = text;
  };

  const drop = async (): Promise<void> => {
    underWay = undefined;
    await CancellationScope.nonCancellable(() => undo.withdrawOrder({ hostname }));
  };

  const placed = async (directory: string): Promise<OrderUnderWay | Attempt> => {
    if (underWay?.directory === directory) return underWay;
    if (underWay !== undefined) await drop();
    const outcome = await order.orderCertificate({ hostname, directory });
    if (outcome.kind !== 'ordered') return failed(outcome.failure, false, outcome.kind === 'limited');
    underWay = { directory, url: outcome.url };
    return underWay;
  };

  const obtainFrom = async (directory: string, { challenge }: Due): Promise<Attempt> => {
    try {
      const mine = await placed(directory);
      if ('kind' in mine) return mine;
      const input = { hostname, ...mine, challenge };
      const proof = await prove.proveHostname(input);
      if (proof.kind === 'failed') {
        if (proof.isCounted || proof.failure.kind === 'order') await drop();
        return failed(proof.failure, proof.isCounted);
      }
      const finished = await finish.finishCertificate(input);
      // What an authority could not do now, it may do later with the same order.
      if (finished.kind === 'issued' || finished.failure.kind !== 'authority') await drop();
      return finished.kind === 'issued' ? finished : failed(finished.failure);
    } catch (error) {
      return unexpected(error);
    }
  };

  const obtain = async (due: Due): Promise<Attempt> => {
    if (due.challenge === 'http-01' && underWay === undefined && !asksAnyway(failures)) {
      try {
        const { problem } = await check.checkPointing({ hostname });
        if (problem !== undefined) return failed({ kind: 'pointing', message: problem });
      } catch (error) {
        return unexpected(error);
      }
    }
    let all: Attempt | undefined;
    for (const directory of due.directories) {
      const one = await obtainFrom(directory, due);
      const sofar = all === undefined ? one : both(all, one);
      if (one.kind === 'issued' || !mayAnotherAuthorityDo(one.failure.kind)) return sofar;
      all = sofar;
    }
    return all ?? failed({ kind: 'internal', message: 'There is no authority to ask.' });
  };

  const ask = async (due: Due): Promise<void> => {
    await show({
      state: 'issuing',
      message: failures === 0 ? `It is asked for: ${due.reason}.` : `It is asked for again: ${due.reason}.`,
    });
    let attempt: Attempt;
    try {
      const scope = new CancellationScope();
      asking = scope;
      // Who said so before this scope could be cancelled.
      if (gone > goneSeen) return;
      attempt = await scope.run(() => obtain(due));
    } catch (error) {
      if (!isCancellation(error) || gone === goneSeen) throw error;
      return;
    } finally {
      asking = undefined;
    }
    if (attempt.kind === 'issued') {
      const { issuer, notAfterMs } = attempt;
      await tell.tellCertificateIssued({ hostname, issuer, notAfterMs, failures });
      failures = 0;
      return;
    }
    const { failure, isCounted, isWaiting } = attempt;
    if (!isWaiting) failures += 1;
    const { nextAttemptAtMs } = await tell.tellCertificateFailure({
      hostname,
      failure,
      failures,
      isCounted,
      isWaiting,
    });
    told = undefined;
    setCurrentDetails(`Waits until ${timeText(nextAttemptAtMs)}. ${failure.message}`);
    await rest(nextAttemptAtMs);
  };

  for (;;) {
    if (workflowInfo().continueAsNewSuggested && gone === goneSeen) {
      await continueAsNew<typeof certificateWorkflow>({
        hostname,
        carried: {
          failures,
          ...(underWay === undefined ? {} : { order: underWay }),
          ...(told === undefined ? {} : { told }),
        },
      });
    }
    isWoken = false;
    const wantedBefore = wanted;
    const goneBefore = gone;
    const found = await look.lookAtCertificate({ hostname });
    goneSeen = goneBefore;
    switch (found.kind) {
      case 'nobody':
        await drop();
        await undo.forgetCertificateState({ hostname });
        told = undefined;
        // It may have changed hands since the look.
        if (wanted === wantedBefore) return;
        break;
      case 'off':
        if (underWay !== undefined) await drop();
        await show({ state: 'off', message: found.reason });
        await rest(Date.now() + CERTIFICATE.lookEveryMs);
        break;
      case 'uploaded':
        if (underWay !== undefined) await drop();
        failures = 0;
        await show({ state: 'uploaded', message: found.message });
        await rest(found.untilMs);
        break;
      case 'held':
        await show({ state: 'issued', message: found.message, renewAtMs: found.renewAtMs });
        await rest(found.lookAgainAtMs);
        break;
      case 'due':
        await ask(found);
        break;
    }
  }
}
