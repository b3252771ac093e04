// The forwarder as the supervisor runs it, and what it needs on the disk.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { projectRoot } from './process';

export interface ForwarderProcess {
  pid(): number;
  start(): void;
  kill(): Promise<void>;
}

/** The program that `npm run build` has made. @param directory of the ingress */
export function createForwarderProcess(directory: string): ForwarderProcess {
  let child: ChildProcess | undefined;
  return {
    pid: () => child?.pid ?? 0,
    start: () => {
      const program = join(projectRoot(), 'dist', 'workers', 'forwarder', 'program.js');
      child = spawn(process.execPath, [program, directory, '127.0.0.1'], { stdio: 'inherit' });
    },
    kill: async () => {
      const ended = child;
      child = undefined;
      if (ended === undefined || ended.exitCode !== null) return;
      const gone = once(ended, 'exit');
      ended.kill('SIGKILL');
      await gone;
    },
  };
}
