// Set-up as a whole: what `npm start` and `npm test` need, step by step.
import { build } from '../build.mjs';
import { ensureDockerEngine } from './docker-engine.mjs';
import { ENGINES } from './engine-releases.mjs';
import { ensureEngines } from './engines.mjs';
import { ensureNpmPackages } from './npm-packages.mjs';
import { step } from './steps.mjs';

/** @returns {Promise<Record<string, string>>} the environment that tells the product where things are */
export async function setUp({ env = process.env, withBuild = true } = {}) {
  const result = {};
  await step('npm dependencies', () => ensureNpmPackages());
  await step('Docker Engine', async () => {
    const { host, found } = await ensureDockerEngine(env);
    result.DOCKER_HOST = host;
    return `${host}, ${found}`;
  });
  await step('Temporal and Consul', async () => {
    const engines = await ensureEngines({ env });
    for (const [name, { path }] of Object.entries(engines)) result[ENGINES[name].binVariable] = path;
    return Object.entries(engines)
      .map(([name, { from }]) => `${name} ${ENGINES[name].version} (${from})`)
      .join(', ');
  });
  if (withBuild) await step('build', () => build());
  return result;
}
