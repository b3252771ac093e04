/**
 * Certificates and answers to challenges of ACME servers on the disk, where Caddy looks for them with each handshake and
 * request (caddy-tls.ts).
 *
 * Invariants: a file is replaced whole; files are for their owner alone; a name that could lead elsewhere is none; what
 * was written holds while nobody writes.
 */

import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { isPlainHostname } from '../../domain/ingress/served-certificates';

/** Each is a folder; `exact` and `wildcard` hold a file for a hostname, or for what follows the `*.` of one. */
export const CERTIFICATES = 'certificates';
export const HTTPS_ONLY = 'https-only';
export const CHALLENGES = 'challenges';

export type Match = 'exact' | 'wildcard';

/** As of RFC 8555: base64url. */
const TOKEN = /^[A-Za-z0-9_-]{1,200}$/;

export interface Challenge {
  readonly hostname: string;
  readonly token: string;
  readonly keyAuthorization: string;
}

export interface CertificateFiles {
  /** Has exactly these. @param pem by hostname: chain and key */
  writeCertificates(match: Match, pem: ReadonlyMap<string, string>): void;
  /** Has plain HTTP redirected of these hostnames at most. */
  keepHttpsOnly(match: Match, hostnames: ReadonlySet<string>): void;
  /** Has plain HTTP of exactly these hostnames redirected. */
  writeHttpsOnly(match: Match, hostnames: ReadonlySet<string>): void;
  /** Has exactly these answered. */
  writeChallenges(challenges: readonly Challenge[]): void;
}

/** @throws the file system's errors, here and in all that it returns */
export const openCertificateFiles = (directory: string): CertificateFiles => {
  const known = new Map<string, string>();

  const folder = (...parts: readonly string[]): string => {
    const path = join(directory, ...parts);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };

  const textIn = (path: string): string | undefined => {
    const text = known.get(path);
    if (text !== undefined) return text;
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  };

  const write = (path: string, text: string): void => {
    if (textIn(path) !== text) {
      // A name that no hostname has.
      const draft = join(directory, `.draft-${process.pid}`);
      writeFileSync(draft, text, { mode: 0o600 });
      renameSync(draft, path);
    }
    known.set(path, text);
  };

  const keepOnly = (inFolder: string, names: { has(name: string): boolean }): void => {
    for (const name of readdirSync(inFolder)) {
      if (names.has(name)) continue;
      const path = join(inFolder, name);
      for (const one of known.keys()) if (one === path || one.startsWith(`${path}/`)) known.delete(one);
      rmSync(path, { recursive: true, force: true });
    }
  };

  const writeAll = (inFolder: string, texts: ReadonlyMap<string, string>): void => {
    for (const [name, text] of texts) {
      if (isPlainHostname(name)) write(join(inFolder, name), text);
    }
    keepOnly(inFolder, texts);
  };

  for (const kind of [CERTIFICATES, HTTPS_ONLY]) {
    folder(kind, 'exact');
    folder(kind, 'wildcard');
  }
  folder(CHALLENGES);

  return {
    writeCertificates: (match, pem) => writeAll(folder(CERTIFICATES, match), pem),
    keepHttpsOnly: (match, hostnames) => keepOnly(folder(HTTPS_ONLY, match), hostnames),
    writeHttpsOnly: (match, hostnames) =>
      writeAll(folder(HTTPS_ONLY, match), new Map([...hostnames].map((hostname) => [hostname, '']))),
    writeChallenges: (challenges) => {
      const byHostname = new Map<string, Map<string, string>>();
      for (const { hostname, token, keyAuthorization } of challenges) {
        if (!isPlainHostname(hostname) || !TOKEN.test(token)) continue;
        const answers = byHostname.get(hostname) ?? new Map<string, string>();
        byHostname.set(hostname, answers.set(token, keyAuthorization));
      }
      for (const [hostname, answers] of byHostname) {
        const inFolder = folder(CHALLENGES, hostname);
        for (const [token, answer] of answers) write(join(inFolder, token), answer);
        keepOnly(inFolder, answers);
      }
      keepOnly(folder(CHALLENGES), byHostname);
    },
  };
};
