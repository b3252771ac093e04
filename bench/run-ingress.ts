// Runs the wanted cases of the ingress: without Docker and without the rest of the product.
import { loadavg } from 'node:os';
import { ingressChangesCase } from './cases/ingress-changes';
import { ingressRequestsCase } from './cases/ingress-requests';
import { ingressScaleCase } from './cases/ingress-scale';
import { programVersions } from './ingress/ingress-bed';
import { createMeasurements, type Measurements } from './measurements';
import { casesOf, commandOf, roundsOf, type IngressCase, type Options } from './options';
import { gatherFacts, type Results } from './report';

export interface IngressCaseOptions {
  readonly rounds: number;
  /** Without other proxies. */
  readonly alone: boolean;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
}

const CASES: Readonly<Record<IngressCase, (options: IngressCaseOptions) => Promise<void>>> = {
  'ingress-requests': ingressRequestsCase,
  'ingress-changes': ingressChangesCase,
  'ingress-scale': ingressScaleCase,
};

export const runIngress = async (options: Options, say: (line: string) => void): Promise<Results> => {
  const facts = await gatherFacts(await programVersions(), commandOf(options), loadavg()[0] ?? 0);
  const measurements = createMeasurements();
  for (const one of casesOf('ingress', options)) {
    say(`\n--- ${one} ---`);
    await CASES[one]({ rounds: roundsOf(one, options), alone: options.alone, measurements, say });
  }
  return {
    section: 'ingress',
    facts: { ...facts, loadAfter: loadavg()[0] ?? 0 },
    measured: measurements.all(),
    idle: [],
  };
};
