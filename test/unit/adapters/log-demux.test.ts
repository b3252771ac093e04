import fc from 'fast-check';

import { interleaveLogs, lastOf, mergeLogs, unixTime } from '../../../adapters/docker/container-logs';
import {
  createDemultiplexer,
  createLineSplitter,
  linesOf,
  type OutputLine,
} from '../../../adapters/docker/log-demux';

const frame = (stream: 'stdout' | 'stderr', text: string): Buffer => {
  const data = Buffer.from(text);
  const header = Buffer.alloc(8);
  header[0] = stream === 'stderr' ? 2 : 1;
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
};
const read = (chunks: readonly Buffer[], timestamps = false): OutputLine[] => {
  const lines: OutputLine[] = [];
  const splitter = createLineSplitter({ timestamps }, (line) => lines.push(line));
  const demultiplex = createDemultiplexer(splitter.push);
  for (const chunk of chunks) demultiplex(chunk);
  splitter.end();
  return lines;
};
const cut = (data: Buffer, sizes: readonly number[]): Buffer[] => {
  const chunks: Buffer[] = [];
  let rest = data;
  for (const size of sizes) {
    chunks.push(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
  return [...chunks, rest];
};

test('lines are the same however the stream is cut', () => {
  const line = fc.string().map((text) => text.replaceAll(/[\r\n]/g, ''));
  const part = fc.record({ stream: fc.constantFrom('stdout' as const, 'stderr' as const), line });
  fc.assert(
    fc.property(fc.array(part), fc.array(fc.nat(40)), (parts, sizes) => {
      const data = Buffer.concat(parts.map((one) => frame(one.stream, `${one.line}\n`)));
      expect(read(cut(data, sizes))).toEqual(parts.map((one) => ({ ...one, at: '' })));
    }),
  );
});

test('a line in several frames, and one without an end', () => {
  const data = [frame('stdout', 'hel'), frame('stderr', 'oops\r\n'), frame('stdout', 'lo\nbye')];
  expect(linesOf(Buffer.concat(data))).toEqual(['oops', 'hello', 'bye']);
});

test('timestamps are taken off', () => {
  const [line] = read([frame('stdout', '2024-01-02T03:04:05.678901234Z hello world\n')], true);
  expect(line).toEqual({ stream: 'stdout', at: '2024-01-02T03:04:05.678901234Z', line: 'hello world' });
  expect(unixTime(line?.at ?? '')).toBe('1704164645.678901234');
});

async function* log(...times: readonly string[]): AsyncGenerator<{ at: string }> {
  for (const at of times) yield { at };
}
const timesOf = async (lines: AsyncIterable<{ at: string }>): Promise<string> => {
  let text = '';
  for await (const { at } of lines) text += at;
  return text;
};

test('several logs become one', async () => {
  expect(await timesOf(mergeLogs([log('a', 'd', 'e'), log(), log('b', 'c', 'f')]))).toBe('abcdef');
  expect(await timesOf(lastOf(mergeLogs([log('a', 'd'), log('b', 'c')]), 2))).toBe('cd');
  expect(await timesOf(lastOf(log('a', 'b'), 0))).toBe('');
  const interleaved = await timesOf(interleaveLogs([log('a', 'd'), log('b', 'c')]));
  expect([...interleaved].sort().join('')).toBe('abcd');
});
