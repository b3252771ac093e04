import { sandboxExecutable } from '../../../adapters/docker/sandbox-image';

test.each([
  ['amd64', 62],
  ['arm64', 183],
] as const)('%s: one loadable segment that begins with its own header', (architecture, machine) => {
  const elf = sandboxExecutable(architecture);
  expect(elf.subarray(0, 4).toString('latin1')).toBe('\x7fELF');
  expect(elf.readUInt16LE(18)).toBe(machine);
  const entry = elf.readBigUInt64LE(24);
  const programHeader = Number(elf.readBigUInt64LE(32));
  const address = elf.readBigUInt64LE(programHeader + 16);
  expect(elf.readBigUInt64LE(programHeader + 32)).toBe(BigInt(elf.length));
  expect(Number(entry - address)).toBeLessThan(elf.length);
  // The kernel wants offset and address to be equal modulo the alignment.
  const alignment = elf.readBigUInt64LE(programHeader + 48);
  expect(address % alignment).toBe(elf.readBigUInt64LE(programHeader + 8) % alignment);
});

test('the last instruction jumps back to the first', () => {
  const amd64 = sandboxExecutable('amd64');
  const code = amd64.subarray(120);
  expect(code.readInt8(code.length - 1)).toBe(-code.length);
  const arm64 = sandboxExecutable('arm64').subarray(120);
  const branch = arm64.readUInt32LE(arm64.length - 4);
  const words = ((branch & 0x03ffffff) << 6) >> 6; // a signed number of 26 bits
  expect(words * 4).toBe(-(arm64.length - 4));
});
