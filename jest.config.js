// One project per layer of test, from pure and fast to the whole product; `--selectProjects` picks one.
const swc = {
  jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
  module: { type: 'commonjs' },
};

const project = (name, extra = {}) => ({
  displayName: name,
  testMatch: [`<rootDir>/test/${name}/**/*.test.ts`],
  testEnvironment: 'node',
  // What is loaded only where it is needed is imported as what it is after the build.
  moduleNameMapper: { '^((?:\\.\\./)+adapters/.*)\\.js$': '$1' },
  transform: { '^.+\\.ts$': ['@swc/jest', swc] },
  ...extra,
});

/** @type {import('jest').Config} */
module.exports = {
  // A machine that is busy with other things is no failure; what must be quick is measured by the test itself.
  testTimeout: 30_000,
  // `npm test` takes more of those that wait much (docs/decisions/set-up-tests.md).
  maxWorkers: 2,
  testSequencer: '<rootDir>/test/longest-first.js',
  projects: ['unit', 'workflow', 'replay', 'integration', 'e2e'].map((name) => project(name)),
};
