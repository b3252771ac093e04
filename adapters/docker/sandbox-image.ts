/**
 * The image of the sandbox container: one static program of a few bytes that sleeps for ever. It is assembled here
 * and given to the engine directly, so that a replica of several containers needs no registry for it.
 */

import type Docker from 'dockerode';

import { SANDBOX_IMAGE } from './container-config';
import { asUnavailable } from './docker-error';
import { inspectImage, readEngineInfo } from './engine-info';
import { slowLimit } from './limits';

const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const LOAD_ADDRESS = 0x400000;
const MACHINE = { amd64: 62, arm64: 183 } as const;

export type SandboxArchitecture = keyof typeof MACHINE;

// prettier-ignore
const CODE: Readonly<Record<SandboxArchitecture, readonly number[]>> = {
  amd64: [
    0xb8, 0x22, 0x00, 0x00, 0x00, // again: mov eax, 34 (pause)
    0x0f, 0x05, //                         syscall
    0xeb, 0xf7, //                         jmp again
  ],
  arm64: [
    0x00, 0x00, 0x80, 0xd2, // again: mov x0, 0
    0x01, 0x00, 0x80, 0xd2, //        mov x1, 0
    0x02, 0x00, 0x80, 0xd2, //        mov x2, 0
    0x03, 0x00, 0x80, 0xd2, //        mov x3, 0
    0x28, 0x09, 0x80, 0xd2, //        mov x8, 73 (ppoll: nothing to wait for, no time limit)
    0x01, 0x00, 0x00, 0xd4, //        svc 0
    0xfa, 0xff, 0xff, 0x17, //        b again
  ],
};

/** A statically linked 64-bit little-endian ELF executable with one segment. */
export const sandboxExecutable = (architecture: SandboxArchitecture): Buffer => {
  const code = Buffer.from(CODE[architecture]);
  const headers = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
  const size = headers + code.length;
  const elf = Buffer.alloc(size);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]); // magic, 64 bits, little-endian, version 1, System V
  elf.writeUInt16LE(2, 16); // executable
  elf.writeUInt16LE(MACHINE[architecture], 18);
  elf.writeUInt32LE(1, 20); // version
  elf.writeBigUInt64LE(BigInt(LOAD_ADDRESS + headers), 24); // entry point
  elf.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // where the program headers are
  elf.writeUInt16LE(ELF_HEADER_BYTES, 52);
  elf.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  elf.writeUInt16LE(1, 56); // one program header
  const segment = ELF_HEADER_BYTES;
  elf.writeUInt32LE(1, segment); // load
  elf.writeUInt32LE(5, segment + 4); // readable and executable
  elf.writeBigUInt64LE(0n, segment + 8); // offset in the file
  elf.writeBigUInt64LE(BigInt(LOAD_ADDRESS), segment + 16);
  elf.writeBigUInt64LE(BigInt(LOAD_ADDRESS), segment + 24);
  elf.writeBigUInt64LE(BigInt(size), segment + 32);
  elf.writeBigUInt64LE(BigInt(size), segment + 40);
  elf.writeBigUInt64LE(0x1000n, segment + 48); // alignment
  code.copy(elf, headers);
  return elf;
};

/**
 * Makes sure that the engine has the image.
 *
 * @throws {ContainerOsError} `unavailable` when the engine does not answer
 */
export const ensureSandboxImage = async (docker: Docker): Promise<void> => {
  try {
    if ((await inspectImage(docker, SANDBOX_IMAGE)) === undefined) await importImage(docker);
  } catch (error) {
    throw asUnavailable(error);
  }
};

const importImage = async (docker: Docker): Promise<void> => {
  const { architecture } = await readEngineInfo(docker);
  if (!(architecture in MACHINE)) {
    throw new Error(`no sandbox for the processor architecture ${architecture}`);
  }
  const { pack } = await import('tar-stream');
  const archive = pack();
  archive.entry({ name: 'pause', mode: 0o755 }, sandboxExecutable(architecture as SandboxArchitecture));
  archive.finalize();
  const [repo, tag] = SANDBOX_IMAGE.split(':') as [string, string];
  const { abortSignal } = slowLimit();
  const progress = await docker.importImage(archive as unknown as NodeJS.ReadableStream, {
    repo,
    tag,
    abortSignal,
  });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(progress, (error) => {
      // A progress that is cut off ends like one that is whole.
      if (abortSignal.aborted) reject(abortSignal.reason as Error);
      else if (error !== null) reject(error);
      else resolve();
    });
  });
};
