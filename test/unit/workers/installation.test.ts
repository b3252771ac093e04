import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parseConfig } from '../../../workers/config';
import { openInstallation } from '../../../workers/installation';

describe('openInstallation', () => {
  let dataDir: string;
  const config = (...flags: string[]) =>
    parseConfig(['--node-name', 'one', '--data-dir', dataDir, ...flags], {}, true);

  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'containeros-installation-'));
  });
  afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

  test('makes a password once and keeps it where only its owner can read it', () => {
    const first = openInstallation(config());
    expect(first.passwordIsNew).toBe(true);
    expect(first.password.length).toBeGreaterThanOrEqual(24);
    expect(statSync(first.passwordFile).mode & 0o777).toBe(0o600);
    expect(readFileSync(first.passwordFile, 'utf8').trim()).toBe(first.password);
    expect(openInstallation(config())).toEqual({ ...first, passwordIsNew: false });
  });

  test('gives two installations different secrets', () => {
    const first = openInstallation(config());
    rmSync(dataDir, { recursive: true });
    const second = openInstallation(config());
    expect(second.password).not.toBe(first.password);
    expect(second.clusterId).not.toBe(first.clusterId);
    expect(second.internalToken).not.toBe(first.internalToken);
  });

  test('uses a given password and writes it nowhere', () => {
    const installation = openInstallation(config('--password', 'given by hand'));
    expect(installation.password).toBe('given by hand');
    expect(() => statSync(installation.passwordFile)).toThrow('ENOENT');
  });

  test('closes a password file that was left open to others', () => {
    const { passwordFile } = openInstallation(config());
    writeFileSync(passwordFile, 'written by hand\n', { mode: 0o644 });
    expect(openInstallation(config()).password).toBe('written by hand');
    expect(statSync(passwordFile).mode & 0o777).toBe(0o600);
  });

  test('says what to do when the directory cannot be used', () => {
    const file = join(dataDir, 'file');
    writeFileSync(file, '');
    const broken = parseConfig(['--node-name', 'one', '--data-dir', join(file, 'below')], {}, true);
    expect(() => openInstallation(broken)).toThrow(/cannot be used.*--data-dir/s);
  });
});
