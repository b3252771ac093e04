// What wrk tells of the requests that it sent. Pure.
// Invariant: a run with a failure is no measurement.

export interface WrkReport {
  readonly requests: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const UNITS_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1_000, m: 60_000 };

const milliseconds = (text: string): number => {
  const [, amount, unit] = /^([\d.]+)(us|ms|s|m)$/.exec(text) ?? [];
  const factor = UNITS_MS[unit ?? ''];
  if (factor === undefined) throw new Error(`wrk tells a time that is not understood: ${text}`);
  return Number(amount) * factor;
};

const SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60 };

/** @throws Error when requests failed, or when wrk tells something else */
export const parseWrk = (output: string): WrkReport => {
  const failures = /^\s*(?:Socket errors|Non-2xx or 3xx responses): .*$/m.exec(output)?.[0];
  if (failures !== undefined) throw new Error(`requests failed: ${failures.trim()}`);
  const found = (pattern: RegExp): RegExpExecArray => {
    const match = pattern.exec(output);
    if (match === null) throw new Error(`wrk tells something that is not understood:\n${output}`);
    return match;
  };
  const [, requests = '', amount = '', unit = ''] = found(/^\s*(\d+) requests in ([\d.]+)(ms|s|m),/m);
  const at = (percent: number): number =>
    milliseconds(found(new RegExp(`^\\s*${percent}%\\s+(\\S+)\\s*$`, 'm'))[1] ?? '');
  return {
    requests: Number(requests),
    seconds: Number(amount) * (SECONDS[unit] ?? 1),
    requestsPerSecond: Number(found(/^Requests\/sec:\s+([\d.]+)\s*$/m)[1]),
    p50Ms: at(50),
    p99Ms: at(99),
  };
};

export interface WrkTarget {
  readonly url: string;
  readonly hostname: string;
  readonly connections: number;
  readonly seconds: number;
  /** Whether each request has a connection of its own. */
  readonly closes?: boolean;
}

export const wrkArguments = ({
  url,
  hostname,
  connections,
  seconds,
  closes,
}: WrkTarget): readonly string[] => [
  ...['--latency', '--threads', '1', '--connections', String(connections), '--duration', `${seconds}s`],
  ...['--timeout', '10s', '--header', `Host: ${hostname}`],
  ...(closes === true ? ['--header', 'Connection: close'] : []),
  url,
];
