// Set-up as a whole: what `npm start` and `npm test` need, step by step. Cheap when everything is there.
import { build } from '../build.mjs';
import { ensureDockerEngine } from './docker-engine.mjs';
import { ENGINES } from './engine-releases.mjs';
import { ensureEngines } from './engines.mjs';
import { ensureNpmPackages } from './npm-packages.mjs';
import { step } from './steps.mjs';
import { ensurePrograms, ensurePythonTools, ensureUnpackedPackages, pathWith } from './test-tools.mjs';

/**
 * For `npm start`, with what readUpFlags told.
 * @returns {Promise<Record<string, string>>} variables that tell the product where things are
 */
export async function setUpToStart({ asksOnly, engineNames, env }) {
  await step('npm dependencies', () => ensureNpmPackages());
  if (asksOnly) {
    await step('build', () => build());
    return {};
  }
  const { host } = await step('Docker Engine', () => ensureDockerEngine(env));
  const engines = await setUpEngines(env, engineNames);
  await step('build', () => build());
  return { DOCKER_HOST: host, ...engines };
}

/**
 * For `npm test`. No Docker Engine is started: the tests run their own. Without root, what only root's tests need is
 * left out. @returns {Promise<Record<string, string>>} variables for the tests
 */
export async function setUpToTest({ asRoot, env = process.env }) {
  await step('npm dependencies', () => ensureNpmPackages());
  const found = await setUpEngines(env);
  if (!asRoot) return found;
  const programs = await setUpPrograms(env);
  const python = await step('Python tools', () => ensurePythonTools(env));
  return { ...found, ...programs, CONTAINEROS_TEST_PYTHON: python.path };
}

/**
 * For test machines without tests, as root.
 * @returns {Promise<Record<string, string>>} variables for test/support
 */
export async function setUpMachines(env = process.env) {
  await step('npm dependencies', () => ensureNpmPackages());
  return { ...(await setUpEngines(env)), ...(await setUpPrograms(env)) };
}

async function setUpPrograms(env) {
  await step('system programs', () => ensurePrograms());
  const programs = await step('test programs', () => ensureUnpackedPackages(env));
  return { PATH: pathWith(programs.path, env) };
}

async function setUpEngines(env, names = Object.keys(ENGINES)) {
  if (names.length === 0) return {};
  const { engines } = await step('engines', async () => {
    const located = await ensureEngines({ env, names });
    const list = Object.entries(located).map(
      ([name, { from }]) => `${name} ${ENGINES[name].version} (${from})`,
    );
    return { engines: located, found: list.join(', ') };
  });
  return Object.fromEntries(
    Object.entries(engines).map(([name, { path }]) => [ENGINES[name].binVariable, path]),
  );
}
