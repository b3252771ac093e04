// The one kind of error that set-up raises on purpose: its text is for the user, so it is printed without a stack.
// Anything else that is thrown is a bug of ours and keeps its stack.

export class SetUpError extends Error {
  /**
   * @param {string} whatHappened one sentence
   * @param {readonly string[]} details what was tried, in order
   * @param {readonly string[]} waysOut what the user can do next
   */
  constructor(whatHappened, details = [], waysOut = []) {
    const lines = [whatHappened];
    for (const detail of details) lines.push(`  - ${indent(detail, '    ')}`);
    if (waysOut.length > 0) lines.push(waysOut.length === 1 ? 'Way out:' : 'Ways out, any one of them:');
    for (const way of waysOut) lines.push(`  * ${indent(way, '    ')}`);
    super(lines.join('\n'));
    this.name = 'SetUpError';
  }
}

const indent = (text, prefix) => text.trim().split('\n').join(`\n${prefix}`);

/** Says a system error in words; the code alone ("ENOSPC") helps nobody who does not know it. */
export function describeSystemError(error) {
  const code = error?.cause?.code ?? error?.code;
  const known = {
    ENOSPC: 'no space is left on the disk',
    EDQUOT: 'the disk quota is used up',
    EROFS: 'the file system is read-only',
    EACCES: 'permission was denied',
    EPERM: 'the operation is not permitted',
    ENOTFOUND: 'the host name could not be resolved (no internet, or no DNS)',
    EAI_AGAIN: 'the host name could not be resolved (no internet, or no DNS)',
    ECONNREFUSED: 'the connection was refused',
    ECONNRESET: 'the connection was cut',
    UND_ERR_SOCKET: 'the connection was cut',
    UND_ERR_CONNECT_TIMEOUT: 'the server could not be reached in time',
    ETIMEDOUT: 'the server could not be reached in time',
    ENETUNREACH: 'the network is unreachable',
    EHOSTUNREACH: 'the host is unreachable',
    CERT_HAS_EXPIRED: 'the certificate of the server has expired (is the clock of this machine right?)',
  }[code];
  const message = error?.cause?.message ?? error?.message ?? String(error);
  if (known === undefined) return message;
  const path = error?.path === undefined ? '' : ` (${error.path})`;
  return `${known}${path}`;
}

/** Runs the body of a command-line entry: a SetUpError ends it with its text and status 1. */
export async function runEntry(main) {
  try {
    process.exitCode = (await main()) ?? process.exitCode ?? 0;
  } catch (error) {
    if (error instanceof SetUpError) console.error(`\n${error.message}`);
    else console.error(error);
    process.exitCode = 1;
  }
}

/** Refuses a machine that cannot run the product, before anything else fails in a way that nobody understands. */
export function requireMachine() {
  if (process.platform !== 'linux') {
    throw new SetUpError(
      `ContainerOS runs on Linux; this is ${process.platform}.`,
      [],
      ['Run it on a Linux machine, or in a virtual machine with Linux.'],
    );
  }
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 3)) return;
  throw new SetUpError(
    `ContainerOS needs Node.js 20.3 or later; this is ${process.versions.node} (${process.execPath}).`,
    [],
    ['Install a newer Node.js, for example from nodejs.org, and run the same command again.'],
  );
}
