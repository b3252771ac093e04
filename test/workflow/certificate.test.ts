/** The workflow of a hostname's certificate, on a real Temporal server; each of its tasks replays all of its history. */

import { Context } from '@temporalio/activity';
import { Client, Connection } from '@temporalio/client';

import { createCertificateRetry } from '../../api/certificate-retry';
import { CERTIFICATE_SIGNAL, certificateWorkflowId } from '../../contracts/certificate-workflow';
import type { IssueFailure } from '../../domain/certificates/acme-problem';
import { eventually } from '../support/wait';

import { DUE, createCertificates, heldFor, want, type Host } from './certificate-subject';
import { useTemporal } from './temporal';

const certificates = createCertificates();
const use = useTemporal({ certificates: certificates.activities, maxCachedWorkflows: 0 });

let count = 0;
let host: Host;
beforeEach(() => {
  count += 1;
  host = certificates.host(`h${count}.example.com`);
});

const handle = () => use.temporal.client.workflow.getHandle(certificateWorkflowId(host.hostname));
afterEach(async () => {
  await handle()
    .terminate()
    .catch(() => undefined);
});

const begin = () => want(use.temporal.client, host.hostname);
const journaled = (line: string | RegExp, times = 1) =>
  eventually(() => {
    const found = host.journal.filter((one) => (typeof line === 'string' ? one === line : line.test(one)));
    expect({ journal: host.journal, found: found.length >= times }).toMatchObject({ found: true });
  });
const failure = (kind: IssueFailure['kind']) => ({ kind, message: `it is ${kind}` });

/** Without what is told of how it stands. */
const steps = () => host.journal.filter((line) => !line.startsWith('tellCertificateState'));

test('a certificate is obtained and told, and then it rests until it is to be renewed', async () => {
  await begin();
  await journaled('tellCertificateState issued');
  expect(steps()).toEqual([
    'lookAtCertificate',
    'checkPointing',
    'orderCertificate first',
    expect.stringMatching(/^proveHostname first first\/order-\d+$/) as string,
    expect.stringMatching(/^finishCertificate first first\/order-\d+$/) as string,
    'withdrawOrder',
    'tellCertificateIssued',
    'lookAtCertificate',
  ]);
  const { raw } = await handle().describe();
  expect(raw.workflowExecutionInfo?.status).toBe(1);
});

test('it is renewed when its time has come', async () => {
  let looks = 0;
  host.on.lookAtCertificate = async () => {
    looks += 1;
    if (looks === 1) return heldFor(50);
    return looks === 2
      ? { kind: 'due', reason: 'it ends', challenge: 'dns-01', directories: ['https://first.example/dir'] }
      : heldFor(3_600_000);
  };
  await begin();
  await journaled('tellCertificateIssued');
  // DNS is no matter of where the hostname leads.
  expect(steps()).not.toContain('checkPointing');
});

test('a hostname that leads elsewhere is not asked for, but each fourth time; then all is told as mended', async () => {
  host.on.checkPointing = async () => ({ problem: 'it leads elsewhere' });
  await begin();
  await journaled('tellCertificateIssued 3');
  expect(steps().filter((line) => !line.startsWith('lookAt'))).toEqual([
    'checkPointing',
    'tellCertificateFailure pointing 1',
    'checkPointing',
    'tellCertificateFailure pointing 2',
    'checkPointing',
    'tellCertificateFailure pointing 3',
    'orderCertificate first',
    expect.stringMatching(/^proveHostname/) as string,
    expect.stringMatching(/^finishCertificate/) as string,
    'withdrawOrder',
    'tellCertificateIssued 3',
  ]);
});

test.each(['authority', 'rate_limited', 'refused', 'account', 'caa'] as const)(
  'another authority is asked when the first one fails by %s',
  async (kind) => {
    host.on.orderCertificate = async ({ directory }) =>
      directory.includes('first')
        ? { kind: 'failed', failure: failure(kind) }
        : { kind: 'ordered', url: `${directory}/order` };
    await begin();
    await journaled('tellCertificateIssued');
    expect(steps()).toContain('proveHostname second second/order');
    expect(steps().filter((line) => line.startsWith('tellCertificateFailure'))).toEqual([]);
  },
);

test('no other authority is asked for what the user has to mend; a new order is placed then', async () => {
  host.on.proveHostname = async () => ({ kind: 'failed', failure: failure('pointing'), isCounted: true });
  await begin();
  await journaled('tellCertificateFailure pointing 2');
  expect(host.journal.join('\n')).not.toContain('second');
  const orders = steps().flatMap((line) => /^proveHostname first (.*)$/.exec(line)?.[1] ?? []);
  expect(new Set(orders).size).toBe(orders.length);
});

test('when no authority can, it is told what each of them said', async () => {
  host.on.orderCertificate = async ({ directory }) => ({
    kind: 'failed',
    failure: failure(directory.includes('first') ? 'refused' : 'authority'),
  });
  let told: IssueFailure | undefined;
  host.on.tellCertificateFailure = async (input) => {
    told ??= input.failure;
    return { nextAttemptAtMs: Date.now() + 3_600_000 };
  };
  await begin();
  await journaled('tellCertificateFailure authority 1');
  expect(told).toEqual({ kind: 'authority', message: 'it is refused it is authority' });
});

test('an order of an authority that has trouble is gone on with when it is tried again', async () => {
  host.on.lookAtCertificate = async () =>
    host.isHeld ? heldFor(3_600_000) : { ...DUE, directories: ['https://first.example/dir'] };
  let times = 0;
  host.on.finishCertificate = async () => {
    times += 1;
    if (times < 3) return { kind: 'failed', failure: failure('authority') };
    host.isHeld = true;
    return { kind: 'issued', issuer: 'Authority', notAfterMs: Date.now() };
  };
  await begin();
  await journaled('tellCertificateIssued 2');
  expect(steps().filter((line) => line.startsWith('orderCertificate'))).toHaveLength(1);
});

test('what waits for its turn is no failure', async () => {
  let times = 0;
  host.on.orderCertificate = async ({ directory }) => {
    times += 1;
    return times <= 2
      ? { kind: 'limited', failure: { ...failure('rate_limited'), notBeforeMs: Date.now() + 50 } }
      : { kind: 'ordered', url: `${directory}/order` };
  };
  await begin();
  await journaled('tellCertificateIssued');
  expect(steps()).toContain('tellCertificateFailure rate_limited waiting');
});

test('a worker that dies while it proves costs no other order', async () => {
  let times = 0;
  host.on.proveHostname = async () => {
    times += 1;
    // No heartbeat: as if the machine was lost.
    if (times === 1) await Context.current().cancelled;
    return { kind: 'proved' };
  };
  await begin();
  await journaled('tellCertificateIssued');
  expect(times).toBe(2);
  expect(steps().filter((line) => line.startsWith('orderCertificate'))).toHaveLength(1);
});

test('a defect is tried again, as everything else', async () => {
  let times = 0;
  host.on.orderCertificate = async ({ directory }) => {
    times += 1;
    if (times <= 3) throw new Error('a defect');
    return { kind: 'ordered', url: `${directory}/order` };
  };
  await begin();
  await journaled('tellCertificateFailure internal 1');
  await journaled('tellCertificateIssued 1');
});

test('a hostname that is gone ends it, whatever it is at, and takes back what was published', async () => {
  host.on.proveHostname = async () => {
    const context = Context.current();
    const timer = setInterval(() => context.heartbeat(), 50);
    try {
      return await context.cancelled;
    } finally {
      clearInterval(timer);
    }
  };
  await begin();
  await journaled(/^proveHostname/);
  host.isWanted = false;
  await handle().signal(CERTIFICATE_SIGNAL.hostnameGone);
  await handle().result();
  expect(steps().slice(-3)).toEqual(['lookAtCertificate', 'withdrawOrder', 'forgetCertificateState']);
});

test('a word that a hostname is gone changes nothing when a microservice has it', async () => {
  await begin();
  await journaled('tellCertificateState issued');
  await handle().signal(CERTIFICATE_SIGNAL.hostnameGone);
  await journaled('lookAtCertificate', 3);
  await handle().signal(CERTIFICATE_SIGNAL.retryNow);
  await journaled('lookAtCertificate', 4);
  expect(host.journal.filter((line) => line.startsWith('tellCertificateState'))).toHaveLength(2);
});

test('a hostname that comes back while it ends is asked for', async () => {
  host.isWanted = false;
  host.on.forgetCertificateState = async () => {
    delete host.on.forgetCertificateState;
    host.isWanted = true;
    await begin();
  };
  await begin();
  await journaled('tellCertificateState issued');
});

test('what was mended is tried at once when somebody says so', async () => {
  let isMended = false;
  host.on.checkPointing = async () => (isMended ? {} : { problem: 'it leads elsewhere' });
  host.on.tellCertificateFailure = async () => ({ nextAttemptAtMs: Date.now() + 3_600_000 });
  await begin();
  await journaled('tellCertificateFailure pointing 1');
  isMended = true;
  await handle().signal(CERTIFICATE_SIGNAL.retryNow);
  await journaled('tellCertificateIssued 1');
});

test.each([
  { kind: 'off', reason: 'nobody is asked' },
  { kind: 'uploaded', untilMs: Date.now() + 3_600_000, message: 'somebody has brought one' },
] as const)('nobody is asked when it is $kind', async (found) => {
  host.on.lookAtCertificate = async () => found;
  await begin();
  await journaled(`tellCertificateState ${found.kind}`);
  expect(steps()).toEqual(['lookAtCertificate']);
});

test('what the API is asked to try again is tried at once, and also where nothing runs any more', async () => {
  const retry = createCertificateRetry(use.temporal.client);
  host.on.checkPointing = async () => ({ problem: 'it leads elsewhere' });
  host.on.tellCertificateFailure = async () => ({ nextAttemptAtMs: Date.now() + 3_600_000 });
  await begin();
  await journaled('tellCertificateFailure pointing 1');
  host.on = {};
  await retry(host.hostname);
  await journaled('tellCertificateState issued');
  await handle().terminate();
  host.journal.length = 0;
  await retry(host.hostname);
  await journaled('lookAtCertificate');
});

test('that Temporal does not take it in is said', async () => {
  const connection = Connection.lazy({ address: '127.0.0.1:9' });
  try {
    await expect(
      createCertificateRetry(new Client({ connection }), 500)(host.hostname),
    ).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(`the certificate for ${host.hostname} is to be tried again`) as string,
    });
  } finally {
    await connection.close();
  }
});
