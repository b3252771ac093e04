// Runs a program in our place: its output is ours, our signals are its, its end is ours.
// It gets a process group of its own, and so exactly one signal for each that the user sends: a terminal and npm both
// deliver a Ctrl-C to us, and a second one means "now" to many programs.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const SAME_SIGNAL_MS = 500;

/** @returns {Promise<number>} its exit status, in the shell's manner for a signal */
export function runInForeground(command, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: 'inherit', detached: true });
    const lastAtMs = new Map();
    const handlers = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'].map((signal) => {
      const handler = () => {
        const now = performance.now();
        if (now - (lastAtMs.get(signal) ?? -Infinity) < SAME_SIGNAL_MS) return;
        lastAtMs.set(signal, now);
        // A terminal that is closed is a wish to stop, and in order.
        child.kill(signal === 'SIGHUP' ? 'SIGTERM' : signal);
      };
      process.on(signal, handler);
      return [signal, handler];
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      for (const [name, handler] of handlers) process.off(name, handler);
      resolve(code ?? 128 + (constants.signals[signal] ?? 0));
    });
  });
}
