// A certificate is renewed and read by the agent, wherever the process that does it is killed.
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { pino } from 'pino';

import { createAuthority, openAuthority } from '../../../../adapters/certificates/authority';
import { openServerCertificate, serverTlsFiles } from '../../../../workers/cluster/head-files';
import { keepRenewed, type Renewing } from '../../../../workers/cluster/renewal';
import { parseConfig } from '../../../../workers/config';
import { createTestAuthority, type TestAuthority } from '../../../support/certificates';
import { eventually } from '../../../support/wait';

const DAY_MS = 86_400_000;
let authority: TestAuthority;
let folder: string;
let running: Renewing[] = [];

beforeAll(() => {
  authority = createTestAuthority('cluster');
});
afterAll(() => authority.dispose());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-renewal-'));
});
afterEach(() => {
  for (const one of running) one.stop();
  running = [];
  rmSync(folder, { recursive: true });
});

const issue = (validForMs: number) =>
  authority.issue({ commonName: 'pi-2', organisation: 'cluster', validForMs }).certificatePem;

/** What is left when the process is killed: files, and what the agent has read of them. */
const createMachine = () => {
  const file = join(folder, 'node.pem');
  const mark = join(folder, 'reload-due');
  const old = issue(60_000);
  writeFileSync(file, old);
  const steps: string[] = [];
  const said: string[] = [];
  const machine = { file, mark, old, steps, said, agentHas: old, isAgentAway: false };
  const killedAt = (step: string, where: string | undefined) => {
    steps.push(step);
    // Nothing comes after it in that process: what is awaited never ends.
    return step === where ? new Promise<never>(() => undefined) : Promise.resolve();
  };
  return {
    machine,
    shown: () => readFileSync(file, 'utf8'),
    isMarked: () => existsSync(mark),
    /** @param killAt the step that is the last of this process */
    start: (killAt?: 'asked' | 'read') => {
      const renewing = keepRenewed({
        owner: 'node pi-2',
        shown: () => readFileSync(file, 'utf8'),
        renew: async () => {
          await killedAt('asked', killAt);
          const renewed = issue(DAY_MS * 25);
          return () => {
            expect(existsSync(mark)).toBe(true);
            writeFileSync(file, renewed);
            steps.push('written');
          };
        },
        onRenewed: () => steps.push('told'),
        reloadAgent: async () => {
          if (machine.isAgentAway) throw new Error('connect ECONNREFUSED');
          machine.agentHas = readFileSync(file, 'utf8');
          await killedAt('read', killAt);
        },
        reloadMark: mark,
        log: pino(
          { level: 'info' },
          { write: (line: string) => void said.push((JSON.parse(line) as { msg: string }).msg) },
        ),
        retryReloadMs: 20,
      });
      running.push(renewing);
      return renewing;
    },
  };
};

test('a certificate that is due is renewed, shown and read by the agent; one that is not is left alone', async () => {
  const { machine, shown, isMarked, start } = createMachine();
  start();
  await eventually(() => expect(machine.agentHas).not.toBe(machine.old));
  await eventually(() => expect(isMarked()).toBe(false));
  expect(machine.agentHas).toBe(shown());
  expect(machine.steps).toEqual(['asked', 'written', 'told', 'read']);
  start();
  await eventually(() => expect(machine.said).toHaveLength(2));
  expect(machine.steps).toHaveLength(4);
});

test.each([
  ['before it is answered', 'asked', ['asked', 'asked', 'written', 'told', 'read']],
  ['when the agent has read it, before that is noted', 'read', ['asked', 'written', 'told', 'read', 'read']],
] as const)('the next process ends what one that was killed began: %s', async (_, killAt, steps) => {
  const { machine, shown, isMarked, start } = createMachine();
  const killed = start(killAt);
  await eventually(() => expect(machine.steps.at(-1)).toBe(killAt));
  killed.stop();
  start();
  await eventually(() => expect(machine.steps).toEqual(steps));
  await eventually(() => expect(isMarked()).toBe(false));
  expect(machine.agentHas).toBe(shown());
  expect(machine.agentHas).not.toBe(machine.old);
});

test('the next process has the agent read what one had only written when it was killed', async () => {
  const { machine, shown, isMarked, start } = createMachine();
  // As it is on the disk then.
  writeFileSync(machine.mark, '');
  writeFileSync(machine.file, issue(DAY_MS * 25));
  start();
  await eventually(() => expect(machine.steps).toEqual(['read']));
  await eventually(() => expect(isMarked()).toBe(false));
  expect(machine.agentHas).toBe(shown());
});

test('an agent that is away reads it when it is back, and that is said once', async () => {
  const { machine, shown, isMarked, start } = createMachine();
  machine.isAgentAway = true;
  start();
  const waits = 'the Consul agent could not be told of the new certificate of node pi-2 yet; trying again';
  await eventually(() => expect(machine.said).toContain(waits));
  expect(isMarked()).toBe(true);
  machine.isAgentAway = false;
  await eventually(() => expect(machine.agentHas).toBe(shown()));
  await eventually(() => expect(isMarked()).toBe(false));
  expect(machine.said.filter((words) => words === waits)).toHaveLength(1);
  expect(machine.steps).toEqual(['asked', 'written', 'told', 'read']);
});

test('the servers show a pair, also when whoever renewed it was killed between its files', async () => {
  const config = parseConfig(['--data-dir', folder, '--advertise-address', '10.0.0.1'], {}, true);
  mkdirSync(join(folder, 'cluster'));
  const real = await openAuthority(await createAuthority({ clusterId: 'c', nowMs: Date.now() }));
  const open = async () => {
    const { certificatePem, keyPem } = await openServerCertificate(config, 'c', real);
    expect(new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
    return new X509Certificate(certificatePem).serialNumber;
  };
  const first = await open();
  expect(await open()).toBe(first);
  const asked = { hosts: [], commonName: 'pi-1', clusterId: 'c', nowMs: Date.now() };
  writeFileSync(serverTlsFiles(config).keyFile, (await real.issueServerCertificate(asked)).keyPem);
  const second = await open();
  expect(second).not.toBe(first);
  expect(await open()).toBe(second);
});
