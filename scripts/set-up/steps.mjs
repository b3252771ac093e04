// Prints each step of set-up by its name, with the time that it took and what it found.

export const formatSeconds = (ms) => `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1)} s`;

/** A line of the step under way: what takes long, said before it begins. */
export function say(text) {
  console.log(`      ${text}`);
}

/** Runs one step; what `work` returns, or its field `found`, is shown beside the name. */
export async function step(name, work) {
  const begin = performance.now();
  try {
    const result = await work();
    const found = typeof result === 'string' ? result : result?.found;
    console.log(line('ok', name, begin, found));
    return result;
  } catch (error) {
    console.log(line('fail', name, begin));
    throw error;
  }
}

export function line(outcome, name, beginMs, text = '') {
  const time = formatSeconds(performance.now() - beginMs);
  return `${outcome.padEnd(6)}${name.padEnd(22)}${time.padStart(8)}  ${text}`.trimEnd();
}
