/**
 * Plans as text, one file a situation. A change of the planner shows as a diff of these files.
 * Written anew only with UPDATE_PLANS=1, never by the way.
 */

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plan } from '../../../domain/model';
import { computePlan, describePlan } from '../../../domain/plan';
import { SCENARIOS, type Scenario } from './plan-scenarios';

const FOLDER = join(__dirname, '../../fixtures/plans');
const update = process.env['UPDATE_PLANS'] === '1';

const renderSituation = ({ title, request, snapshot }: Scenario): readonly string[] => [
  `# ${title}`,
  '',
  `${request.kind}: scale ${request.desired.scale}, v${request.desired.release.number}`,
  ...snapshot.nodes.map((node) =>
    [
      `node ${node.id}:`,
      node.up ? node.health : 'down',
      ...(node.engineLostAtMs === undefined ? [] : ['without engine']),
      ...(node.availability === 'active' ? [] : [node.availability]),
      ...(node.images.length === 0 ? ['(no images)'] : []),
    ].join(' '),
  ),
  ...snapshot.replicas.map((one) => `replica ${one.id}: ${one.state} on ${one.nodeId}, v${one.release}`),
];

const renderPlan = (plan: Plan, { snapshot }: Scenario): readonly string[] => {
  const phases = plan.phases.flatMap((phase, index) => [
    `phase ${index + 1}: ${phase.kind}`,
    ...describePlan({ ...plan, phases: [phase], unplaced: 0 }, snapshot).map((line) => `  ${line}`),
  ]);
  const unplaced = describePlan({ ...plan, phases: [] }, snapshot);
  return [...phases, ...unplaced, ...(plan.converged ? ['converged'] : [])];
};

describe('golden plans', () => {
  test.each(Object.entries(SCENARIOS))('%s', (name, scenario) => {
    const plan = computePlan(scenario.request, scenario.snapshot);
    const text = [...renderSituation(scenario), '', ...renderPlan(plan, scenario), ''].join('\n');
    const file = join(FOLDER, `${name}.txt`);
    if (update) writeFileSync(file, text);
    expect(existsSync(file) ? readFileSync(file, 'utf8') : 'no such file').toBe(text);
  });

  test('there is no file without a situation', () => {
    const files = readdirSync(FOLDER).map((file) => file.replace(/\.txt$/, ''));
    expect(files.sort()).toEqual(Object.keys(SCENARIOS).sort());
  });
});
