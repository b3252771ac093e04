/** Frames between the API and nodes: whatever the transport cuts or joins, what was sent comes out. */

import fc from 'fast-check';

import {
  EXEC_CHANNELS,
  MAX_FRAME_BYTES,
  createFrameDecoder,
  encodeControl,
  encodeFrames,
  type ExecChannel,
  type ExecFrame,
} from '../../../contracts/exec';

const decode = (bytes: Buffer, cuts: readonly number[]): ExecFrame[] => {
  const decoder = createFrameDecoder();
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  const frames: ExecFrame[] = [];
  for (const to of [...places, bytes.length]) {
    frames.push(...decoder.push(bytes.subarray(from, to)));
    from = to;
  }
  return frames;
};

test('frames come out as they went in, wherever they are cut', () => {
  const frame = fc.record({
    channel: fc.constantFrom<ExecChannel>(...EXEC_CHANNELS),
    data: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), fc.array(fc.nat()), (frames, cuts) => {
      const bytes = Buffer.concat(frames.map(({ channel, data }) => encodeFrames(channel, data)));
      expect(decode(bytes, cuts)).toEqual(frames);
    }),
  );
});

test('long data goes as several frames, none longer than the limit', () => {
  const data = Buffer.alloc(2 * MAX_FRAME_BYTES + 1, 'x');
  const frames = decode(encodeFrames('stdout', data), [7, 70_000]);
  expect(frames.map(({ data: part }) => part.length)).toEqual([MAX_FRAME_BYTES, MAX_FRAME_BYTES, 1]);
});

test('an empty frame is a frame: the end of the input', () => {
  expect(decode(encodeFrames('stdin', Buffer.alloc(0)), [])).toEqual([
    { channel: 'stdin', data: Buffer.alloc(0) },
  ]);
});

test('controls are JSON', () => {
  const [frame] = decode(encodeControl({ kind: 'exited', exitCode: 7 }), [3]);
  expect(JSON.parse(frame?.data.toString('utf8') ?? '')).toEqual({ kind: 'exited', exitCode: 7 });
});

test.each([
  ['a channel that there is not', Buffer.from([9, 0, 0, 0, 0])],
  ['a length beyond the limit', Buffer.from([1, 0, 1, 0, 1])],
])('%s ends it', (_, bytes) => {
  expect(() => createFrameDecoder().push(bytes)).toThrow('no frame');
});
