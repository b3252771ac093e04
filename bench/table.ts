// From measurements to the tables that people read. Pure.
// Invariant: what is compared are medians; of the direct calls, the number at a time whose median is best.
import { isDirect, type Measured, type PeerId, type Target, type Unit } from './measurements';
import { best, pairedRatio, ratio, summarise, type Summary } from './statistics';

export interface Row {
  readonly metric: string;
  readonly peer: PeerId;
  readonly summary: Summary;
  readonly toDocker?: number;
  readonly toSwarm?: number;
  /** Of the same rounds. */
  readonly toCaddy?: number;
  readonly target?: Target;
  /** Undefined: there is no target, or nothing to compare with was measured. */
  readonly met?: boolean;
}

/** One row for each who was measured, the product last. */
export const rowsOf = ({ metric, values }: Measured): readonly Row[] => {
  const summaries = new Map([...values].map(([peer, list]) => [peer, summarise(list)]));
  const direct = best(new Map([...values].filter(([peer]) => isDirect(peer))));
  const medianOf = (peer: PeerId | undefined) =>
    peer === undefined ? undefined : summaries.get(peer)?.median;
  const dockerMedian = medianOf(direct);
  const swarmMedian = medianOf('swarm');
  const shown: readonly (PeerId | undefined)[] = [
    direct,
    'swarm',
    'nginx',
    'haproxy',
    'caddy',
    'containeros',
  ];
  return shown.flatMap((peer): Row[] => {
    const summary = peer === undefined ? undefined : summaries.get(peer);
    if (peer === undefined || summary === undefined) return [];
    const toCaddy = pairedRatio(values.get(peer) ?? [], values.get('caddy') ?? []);
    const comparisons = {
      ...(dockerMedian === undefined || peer === direct
        ? {}
        : { toDocker: ratio(summary.median, dockerMedian) }),
      ...(swarmMedian === undefined || peer !== 'containeros'
        ? {}
        : { toSwarm: ratio(summary.median, swarmMedian) }),
      ...(toCaddy === undefined || peer === 'caddy' ? {} : { toCaddy }),
    };
    const row = { metric: metric.title, peer, summary, ...comparisons };
    if (peer !== 'containeros' || metric.target === undefined) return [row];
    const met = isMet(metric.target, row);
    return [{ ...row, target: metric.target, ...(met === undefined ? {} : { met }) }];
  });
};

export const isMet = (
  target: Target,
  { summary, toDocker, toSwarm, toCaddy }: Pick<Row, 'summary' | 'toDocker' | 'toSwarm' | 'toCaddy'>,
): boolean | undefined => {
  switch (target.kind) {
    case 'below':
      return summary.median < target.limit && (target.worst === undefined || summary.max < target.worst);
    case 'near-docker':
      if (toDocker === undefined || toSwarm === undefined) return undefined;
      return toDocker <= target.timesAtMost && toSwarm < 1;
    case 'near-caddy':
      if (toCaddy === undefined) return undefined;
      return target.isBetter === 'more'
        ? toCaddy >= 1 - target.percentWorse / 100
        : toCaddy <= 1 + target.percentWorse / 100;
  }
};

const PEER_NAMES = {
  containeros: 'ContainerOS',
  swarm: 'Docker Swarm',
  nginx: 'nginx',
  haproxy: 'HAProxy',
  caddy: 'Caddy by hand',
} as const;

export const peerName = (peer: PeerId): string =>
  isDirect(peer) ? `Docker API, ${peer.slice('docker-'.length)} at a time` : PEER_NAMES[peer];

const DIGITS: Readonly<Record<Unit, number>> = { s: 2, ms: 1, MB: 0, '% of a core': 2, 'requests/s': 0 };

export const formatValue = (value: number, unit: Unit): string => `${value.toFixed(DIGITS[unit])} ${unit}`;

const formatTarget = (target: Target | undefined, unit: Unit): string => {
  if (target === undefined) return '';
  switch (target.kind) {
    case 'below':
      return `under ${target.limit} ${unit}${target.worst === undefined ? '' : `, each under ${target.worst} ${unit}`}`;
    case 'near-docker':
      return `at most ${target.timesAtMost} × Docker API, faster than Swarm`;
    case 'near-caddy':
      return `at most ${target.percentWorse} % worse than Caddy by hand`;
  }
};

const formatRatio = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(2));

export const markdownTable = (head: readonly string[], rows: readonly (readonly string[])[]): string => {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
};

/** Several peers side by side. */
export const comparisonTable = (measured: readonly Measured[]): string =>
  markdownTable(
    ['case', 'who', 'median', 'min–max', 'rounds', '÷ Docker API', '÷ Swarm', 'target', 'met'],
    measured.flatMap((one) =>
      rowsOf(one).map(({ metric, peer, summary, toDocker, toSwarm, target, met }, index) => [
        index === 0 ? metric : '',
        peerName(peer),
        formatValue(summary.median, one.metric.unit),
        spread(summary, one.metric.unit),
        String(summary.count),
        formatRatio(toDocker),
        formatRatio(toSwarm),
        formatTarget(target, one.metric.unit),
        verdict(met),
      ]),
    ),
  );

/** Proxies side by side. */
export const proxyTable = (measured: readonly Measured[]): string =>
  markdownTable(
    ['case', 'who', 'median', 'min–max', 'rounds', '÷ Caddy by hand', 'target', 'met'],
    measured.flatMap((one) =>
      rowsOf(one).map(({ metric, peer, summary, toCaddy, target, met }, index) => [
        index === 0 ? metric : '',
        peerName(peer),
        formatValue(summary.median, one.metric.unit),
        spread(summary, one.metric.unit),
        String(summary.count),
        formatRatio(toCaddy),
        formatTarget(target, one.metric.unit),
        verdict(met),
      ]),
    ),
  );

/** What only the product is measured at. */
export const limitTable = (measured: readonly Measured[]): string =>
  markdownTable(
    ['case', 'median', 'min–max', 'rounds', 'target', '÷ target', 'met'],
    measured.flatMap((one) =>
      rowsOf(one).map(({ metric, summary, target, met }) => [
        metric,
        formatValue(summary.median, one.metric.unit),
        spread(summary, one.metric.unit),
        String(summary.count),
        formatTarget(target, one.metric.unit),
        target?.kind === 'below' ? formatRatio(ratio(summary.median, target.limit)) : '',
        verdict(met),
      ]),
    ),
  );

const spread = ({ min, max }: Summary, unit: Unit): string =>
  `${min.toFixed(DIGITS[unit])}–${max.toFixed(DIGITS[unit])}`;

const verdict = (met: boolean | undefined): string => (met === undefined ? '' : met ? 'yes' : '**no**');

export type Section = 'engine' | 'cluster' | 'ingress';

/** Between which lines of the document the results of a section stand. */
export const MARKS: Readonly<Record<Section, { readonly begin: string; readonly end: string }>> = {
  engine: {
    begin: '<!-- results: begin; written by npm run bench -->',
    end: '<!-- results: end -->',
  },
  cluster: {
    begin: '<!-- results of three machines: begin; written by npm run bench -->',
    end: '<!-- results of three machines: end -->',
  },
  ingress: {
    begin: '<!-- results of the ingress: begin; written by npm run bench -->',
    end: '<!-- results of the ingress: end -->',
  },
};

/** The document with what is between the section's marks replaced. */
export const withResults = (document: string, section: Section, results: string): string => {
  const marks = MARKS[section];
  const begin = document.indexOf(marks.begin);
  const end = document.indexOf(marks.end);
  if (begin === -1 || end < begin) throw new Error(`the document has no place for results of the ${section}`);
  return `${document.slice(0, begin + marks.begin.length)}\n\n${results.trim()}\n\n${document.slice(end)}`;
};

/** What is compared, each with what tells more about it, and what only the product is measured at. */
export const sorted = (
  measured: readonly Measured[],
): { readonly compared: readonly Measured[]; readonly alone: readonly Measured[] } => {
  const isBesideAnother = ({ metric: { beside } }: Measured): boolean =>
    measured.some(({ metric, values }) => metric.id === beside && values.size > 1);
  const compared = measured
    .filter((one) => one.values.size > 1 && !isBesideAnother(one))
    .flatMap((one) => [one, ...measured.filter(({ metric }) => metric.beside === one.metric.id)]);
  return { compared, alone: measured.filter((one) => !compared.includes(one)) };
};
