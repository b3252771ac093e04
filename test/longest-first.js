// The order in which test files begin. Where jest knows from an earlier run how long each takes, that decides; in a fresh
// clone it would go by their sizes, and a short file that takes long would begin, and run alone, when all others have ended.
const { relative } = require('node:path');
const { default: Sequencer } = require('@jest/test-sequencer');

/** Of each stage; what is large begins early by its size. */
const LONGEST = [
  'test/unit/architecture/import-table.test.ts',
  'test/workflow/releases-matrix.test.ts',
  'test/workflow/continue-as-new.test.ts',
  'test/integration/set-up-image.test.ts',
  'test/integration/node-exclusive.test.ts',
  'test/integration/leases.test.ts',
  'test/integration/remove-node.test.ts',
  'test/integration/ingress-handover.test.ts',
  'test/e2e/fuzz.test.ts',
  'test/e2e/cluster-random.test.ts',
  'test/e2e/cluster-engine.test.ts',
  'test/e2e/cluster-faults-power.test.ts',
];

module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    const begins = ({ path, duration, context }) =>
      duration === undefined && LONGEST.includes(relative(context.config.rootDir, path)) ? 0 : 1;
    return [...super.sort(tests)].sort((a, b) => begins(a) - begins(b));
  }
};
