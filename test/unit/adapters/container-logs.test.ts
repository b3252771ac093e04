import { interleaveLogs } from '../../../adapters/docker/container-logs';

const silentLog: AsyncIterator<string> = { next: () => new Promise(() => undefined) };

async function* linesOf(count: number): AsyncGenerator<string> {
  for (let line = 0; line < count; line += 1) yield `line ${line}`;
}

const collect = async (log: AsyncIterable<string>): Promise<string[]> => {
  const lines: string[] = [];
  for await (const line of log) lines.push(line);
  return lines;
};

test('a talkative log leaves nothing behind at a silent one', async () => {
  const lines = interleaveLogs([linesOf(200), silentLog]);
  const then = jest.spyOn(Promise.prototype, 'then');
  for (let line = 0; line < 200; line += 1) expect((await lines.next()).value).toBe(`line ${line}`);
  const waits = new Map<unknown, number>();
  for (const promise of then.mock.contexts) waits.set(promise, (waits.get(promise) ?? 0) + 1);
  then.mockRestore();
  expect(Math.max(...waits.values())).toBeLessThan(5);
});

test('every line of every log comes, and the end comes with the last one', async () => {
  const lines = await collect(interleaveLogs([linesOf(3), linesOf(0), linesOf(2)]));
  expect(lines.sort()).toEqual(['line 0', 'line 0', 'line 1', 'line 1', 'line 2']);
  expect(await collect(interleaveLogs([]))).toEqual([]);
});

test('the failure of one log is the failure of all', async () => {
  const failing = { next: () => Promise.reject(new Error('the engine is away')) };
  await expect(collect(interleaveLogs([linesOf(1), failing, silentLog]))).rejects.toThrow('away');
});
