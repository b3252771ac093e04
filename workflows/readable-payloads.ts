/**
 * How workflows read what comes in their history. The worker of a node writes some of it, and a machine that joined
 * may write anything: what cannot be read must not keep a workflow from going on.
 *
 * Invariant: reading never throws. What cannot be read is an `Unreadable`, which has the shape of nothing that
 * anybody asks for, or a failure that says so.
 */

import {
  ApplicationFailure,
  DefaultFailureConverter,
  defaultPayloadConverter,
  type FailureConverter,
  type PayloadConverter,
} from '@temporalio/common';

export class Unreadable {}

const orElse = <T>(read: () => T, otherwise: () => T): T => {
  try {
    return read();
  } catch {
    return otherwise();
  }
};

export const payloadConverter: PayloadConverter = {
  toPayload: (value) => defaultPayloadConverter.toPayload(value),
  fromPayload: <T>(payload: Parameters<PayloadConverter['fromPayload']>[0]) =>
    orElse(
      () => defaultPayloadConverter.fromPayload<T>(payload),
      () => new Unreadable() as T,
    ),
};

class ReadableFailures extends DefaultFailureConverter {
  override failureToError(...args: Parameters<FailureConverter['failureToError']>): Error {
    return orElse(
      () => super.failureToError(...args),
      () =>
        ApplicationFailure.create({ type: 'internal', message: 'it failed, in words that cannot be read' }),
    );
  }
}

export const failureConverter: FailureConverter = new ReadableFailures();
