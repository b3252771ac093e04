// Where set-up keeps things. The cache is outside the checkout, so that clones share it and `git clean` keeps it.
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const checkoutPath = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..');

export function cachePath(env = process.env) {
  if (env.CONTAINEROS_CACHE_DIR) return resolve(env.CONTAINEROS_CACHE_DIR);
  const base = env.XDG_CACHE_HOME ? resolve(env.XDG_CACHE_HOME) : join(homedir(), '.cache');
  return join(base, 'containeros');
}
