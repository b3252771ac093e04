// Prints each step of set-up by its name, with what it found and the time that it took.

export const formatSeconds = (ms) => `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1)} s`;

/** A sub-line of the step under way: what takes long, said before it begins. */
export function say(text) {
  console.log(`  ${text}`);
}

/** Runs one step; what `work` returns (a string or nothing) is shown beside its name. */
export async function step(name, work) {
  const begin = performance.now();
  try {
    const found = await work();
    const time = formatSeconds(performance.now() - begin);
    console.log(`ok    ${name.padEnd(22)} ${time.padStart(8)}  ${found ?? ''}`.trimEnd());
    return found;
  } catch (error) {
    console.log(`fail  ${name.padEnd(22)} ${formatSeconds(performance.now() - begin).padStart(8)}`);
    throw error;
  }
}
