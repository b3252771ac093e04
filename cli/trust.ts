/**
 * Has this machine trust the cluster's authority for private hostnames, so that https://NAME.localhost opens without a
 * warning.
 *
 * Invariants: nothing is changed but stores of authorities, and each is named; what was done before a failure is told.
 */

import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { accessSync, constants, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

import type { AuthorityView } from '../openapi/schemas';

import { CommandError, type Command } from './command';
import { ROOT_FILE, planTrust, type MachineView, type TrustStep } from './trust-stores';

export interface TrustMachine extends MachineView {
  /** Whether what belongs to the system can be changed. */
  readonly isPrivileged: boolean;
  write(file: string, text: string): void;
  remove(file: string): void;
  /** @throws {Error} with what the program said */
  run(command: string, args: readonly string[]): void;
}

/** Where those of the system are, also for people whose PATH has not got them. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

const thisMachine = (): TrustMachine => {
  const path = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_FOLDERS].join(delimiter);
  const canRun = (file: string): boolean => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  return {
    platform: process.platform,
    home: homedir(),
    // Windows asks by itself, or refuses in its own words.
    isPrivileged: process.getuid === undefined || process.getuid() === 0,
    exists: existsSync,
    list: (folder) => (existsSync(folder) ? readdirSync(folder) : []),
    has: (program) => path.split(delimiter).some((folder) => canRun(join(folder, program))),
    write: (file, text) => writeFileSync(file, text, { mode: 0o644 }),
    remove: (file) => rmSync(file, { force: true }),
    run: (command, args) => {
      try {
        execFileSync(command, [...args], { stdio: 'pipe', env: { ...process.env, PATH: path } });
      } catch (error) {
        const { stderr, message } = error as Error & { readonly stderr?: Buffer };
        throw new Error(stderr?.toString().trim() || message, { cause: error });
      }
    },
  };
};

const NAME_CHARACTERS = 12;

const perform = (machine: TrustMachine, step: TrustStep, pem: string, rootFile: string): void => {
  switch (step.kind) {
    case 'write':
      return machine.write(step.file, pem);
    case 'remove':
      return machine.remove(step.file);
    case 'run':
      try {
        machine.run(
          step.command,
          step.args.map((one) => (one === ROOT_FILE ? rootFile : one)),
        );
      } catch (error) {
        if (step.mayFail !== true) throw error;
      }
  }
};

const withRootFile = <T>(pem: string, use: (file: string) => T): T => {
  const folder = mkdtempSync(join(tmpdir(), 'containeros-root-'));
  try {
    const file = join(folder, 'root.crt');
    writeFileSync(file, pem);
    return use(file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

/** @param machine for tests */
export const trustCommand = (machine: TrustMachine = thisMachine()): Command => ({
  name: 'trust',
  arguments: [],
  flags: [
    { name: 'print', help: 'Print the root in PEM, and change nothing.' },
    { name: 'uninstall', help: 'Take it out of the stores again.' },
  ],
  summary: 'Have this machine trust https://NAME.localhost and the like.',
  details: [
    'Puts the root of the cluster’s authority for private hostnames into the store of the system, and into those of',
    'Firefox and Chrome where certutil is there. It can vouch for private names only (NAME.localhost, .internal, .test',
    'and the like), so nobody can pose as another site with it. Needs root: sudo containeros trust. Programs with lists of',
    'their own take it from a file: containeros trust --print > root.pem; NODE_EXTRA_CA_CERTS=root.pem node ...',
  ],
  run: async ({ api, isSet }) => {
    const answer = await api.call<AuthorityView>('GET', '/v1/authority');
    const { certificate: pem, fingerprint, subject } = answer.value;
    if (isSet('print')) return { answer, words: () => pem.trimEnd() };
    const isRemoved = isSet('uninstall');
    if (!machine.isPrivileged) {
      throw new CommandError(
        'forbidden',
        'The stores of this system belong to root. Run the same again with sudo, or take the root with --print.',
      );
    }
    const root = {
      name: `containeros-${fingerprint.slice(0, NAME_CHARACTERS)}`,
      sha1: new X509Certificate(pem).fingerprint.replaceAll(':', ''),
    };
    const { stores, notes } = planTrust(machine, root, isRemoved);
    if (stores.length === 0) throw new CommandError('not_found', notes.join(' '));
    const done: string[] = [];
    const failed: string[] = [];
    withRootFile(pem, (file) => {
      for (const { name, steps } of stores) {
        try {
          for (const step of steps) perform(machine, step, pem, file);
          done.push(name);
        } catch (error) {
          failed.push(`${name}: ${(error as Error).message}`);
        }
      }
    });
    const told = done.length === 0 ? '' : ` ${isRemoved ? 'Taken out of' : 'Put into'} ${done.join(', ')}.`;
    if (failed.length > 0) {
      throw new CommandError('internal', `Not everything could be done: ${failed.join('; ')}.${told}`);
    }
    return {
      answer,
      words: () =>
        [
          isRemoved
            ? `This machine does not trust ${subject} any more.`
            : `This machine trusts ${subject}. Start browsers again to have them notice.`,
          '',
          ...done.map((name) => `  ${isRemoved ? 'taken out of' : 'put into'} ${name}`),
          ...notes.map((note) => `\n${note}`),
        ].join('\n'),
    };
  },
});
