// What the benchmarks of the ingress need beside what tests need: other proxies, and a program that asks them.
import { ensureUnpacked } from './unpacked-packages.mjs';

const library = (name) =>
  ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map((where) => `usr/lib/${where}/${name}`);

const PACKAGES = {
  wrk: { files: [['usr/bin/wrk']] },
  'libluajit-5.1-2': { files: [library('libluajit-5.1.so.2')] },
  nginx: { files: [['usr/sbin/nginx']] },
  haproxy: { files: [['usr/sbin/haproxy']] },
  'liblua5.3-0': { files: [library('liblua5.3.so.0')] },
  'libopentracing-c-wrapper0': { files: [library('libopentracing-c-wrapper.so.0')] },
  libopentracing1: { files: [library('libopentracing.so.1')] },
};

/** @returns {Promise<{ path: string, found: string }>} the folder of programs and libraries */
export const ensureBenchPrograms = (env = process.env) =>
  ensureUnpacked(
    {
      name: 'bench-programs',
      title: 'programs of the benchmarks',
      neededBy: 'the benchmarks',
      packages: PACKAGES,
    },
    env,
  );
