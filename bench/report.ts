// Writes what was measured: for people into docs/benchmarks.md, for programs as JSON.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import type Docker from 'dockerode';
import { projectRoot, runCommand } from '../test/support/process';
import type { IdleReport } from './cases/idle';
import type { Measured } from './measurements';
import {
  comparisonTable,
  limitTable,
  markdownTable,
  proxyTable,
  sorted,
  withResults,
  type Section,
} from './table';

export interface Facts {
  readonly date: string;
  readonly command: string;
  readonly commit: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  /** What else was part of it, with versions. */
  readonly programs: string;
  readonly node: string;
  /** Load averages over a minute, before and after. */
  readonly loadBefore: number;
  readonly loadAfter?: number;
}

/** Of one run of one section. */
export interface Results {
  readonly section: Section;
  readonly facts: Facts;
  readonly measured: readonly Measured[];
  readonly idle: readonly IdleReport[];
}

export const dockerVersion = async (docker: Docker): Promise<string> => {
  const info = (await docker.info()) as { ServerVersion: string; Driver: string };
  return `Docker ${info.ServerVersion} (${info.Driver})`;
};

/** @param programs that were part of it, with their versions */
export const gatherFacts = async (programs: string, command: string, loadBefore: number): Promise<Facts> => {
  const git = await runCommand('git', ['-C', projectRoot(), 'rev-parse', '--short', 'HEAD'], {
    mayFail: true,
  });
  return {
    date: new Date().toISOString(),
    command,
    commit: git.stdout.trim() || 'unknown',
    cores: cpus().length,
    memoryGb: totalmem() / 1e9,
    kernel: release(),
    programs,
    node: process.versions.node,
    loadBefore,
  };
};

export const toJson = (all: readonly Results[]): string =>
  JSON.stringify(
    all.map(({ section, facts, measured, idle }) => ({
      section,
      facts,
      measurements: measured.map(({ metric, values }) => ({ ...metric, values: Object.fromEntries(values) })),
      idle,
    })),
    null,
    2,
  );

const HEADINGS: Readonly<Record<Section, { compared: string; alone: string; idle: string }>> = {
  engine: { compared: 'Changes', alone: 'Reads and idling', idle: 'Each process when idle' },
  cluster: {
    compared: 'Changes and losses, three machines',
    alone: 'Machines that joined, when idle',
    idle: 'Each process of machines that joined, when idle',
  },
  ingress: {
    compared: 'Requests through the ingress and other proxies',
    alone: 'Changes and size of the ingress',
    idle: 'Each process of the ingress, when idle',
  },
};

export const toMarkdown = ({ section, facts, measured, idle }: Results): string => {
  const { compared, alone } = sorted(measured);
  const headings = HEADINGS[section];
  return [
    factLines(facts),
    ...(compared.length === 0
      ? []
      : [`### ${headings.compared}`, (section === 'ingress' ? proxyTable : comparisonTable)(compared)]),
    ...(alone.length === 0 ? [] : [`### ${headings.alone}`, limitTable(alone)]),
    ...(idle.length === 0 ? [] : [`### ${headings.idle}`, idleTable(idle), sharersNote(idle)]),
  ].join('\n\n');
};

const factLines = (facts: Facts): string =>
  [
    `- ${facts.date.slice(0, 16).replace('T', ' ')} UTC, commit ${facts.commit}: \`${facts.command}\``,
    `- ${facts.cores} cores, ${facts.memoryGb.toFixed(0)} GB of memory, Linux ${facts.kernel}, ${facts.programs}, Node.js ${facts.node}`,
    `- load average of the last minute: ${facts.loadBefore.toFixed(2)} before${facts.loadAfter === undefined ? '' : `, ${facts.loadAfter.toFixed(2)} after`}`,
  ].join('\n');

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

const idleTable = (idle: readonly IdleReport[]): string =>
  markdownTable(
    ['state', 'process', 'CPU, % of a core', 'RSS, MB', 'PSS, MB', 'anonymous, MB'],
    idle.flatMap(({ state, processes, togetherBytes }) => {
      const sum = (pick: (each: IdleReport['processes'][number]) => number) =>
        processes.reduce((total, each) => total + pick(each), 0);
      return [
        ...processes.map(({ role, cpuPercent, rssBytes, pssBytes, anonymousBytes }, index) => [
          index === 0 ? state : '',
          role,
          cpuPercent.toFixed(2),
          megabytes(rssBytes),
          megabytes(pssBytes),
          megabytes(anonymousBytes),
        ]),
        [
          '',
          'in all',
          sum(({ cpuPercent }) => cpuPercent).toFixed(2),
          megabytes(togetherBytes),
          megabytes(sum(({ pssBytes }) => pssBytes)),
          megabytes(sum(({ anonymousBytes }) => anonymousBytes)),
        ],
      ];
    }),
  );

const sharersNote = (idle: readonly IdleReport[]): string => {
  const most = Math.max(...idle.map(({ sharers }) => sharers));
  return most === 0
    ? 'Nothing else on the machine ran the same programs.'
    : `Up to ${most} other processes on the machine ran the same programs, which makes PSS smaller; memory in all does not depend on it.`;
};

/** docs/benchmarks.md with these results in place of the last ones of their section. */
export const writeDocument = async (results: Results): Promise<string> => {
  const path = join(projectRoot(), 'docs', 'benchmarks.md');
  const document = withResults(readFileSync(path, 'utf8'), results.section, toMarkdown(results));
  writeFileSync(path, await format(document, { ...(await resolveConfig(path)), parser: 'markdown' }));
  return path;
};
