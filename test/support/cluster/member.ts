// A machine's ContainerOS as a member of a cluster: `containeros join` the first time, `containeros up` after that.
// Invariant: the command to join is the one that the head's API gives to its users.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JoinTokenView, NodeView } from '../../../openapi/schemas';
import type { DockerEngine } from '../engine';
import type { Instance } from '../instance';
import { prepareProductProcess, type ProductProcess } from '../product-process';
import { read } from '../product';

export interface MemberOptions {
  readonly engine: DockerEngine;
  readonly head: Instance;
  /** Further flags of `join` and `up`. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** What the supervisor says when everything on the machine is ready. */
const READY_TEXT = 'This machine is node ';

/** Whether a node says that its clock is wrong, which a test has moved. */
export const saysClockIsOff = ({ health, reasons }: NodeView): boolean =>
  health === 'degraded' && reasons.some((reason) => reason.startsWith('its clock is '));

/** Makes the machine a node, named as its host, and waits until the head's API shows it at work. */
export async function startMember(options: MemberOptions): Promise<ProductProcess> {
  const { engine, head } = options;
  const dataDir = join(engine.folder, 'member');
  const flags = [
    ...['--data-dir', dataDir],
    ...['--node-name', engine.hostname],
    ...['--advertise-address', engine.address],
    ...(options.flags ?? []),
  ];
  const joinArguments = await askForJoinArguments(head);
  let hasJoined = false;
  let logSeen = 0;
  const log = (): string => (existsSync(`${dataDir}.log`) ? readFileSync(`${dataDir}.log`, 'utf8') : '');

  const product = await prepareProductProcess({
    machine: engine,
    dataDir,
    command: () => {
      logSeen = log().length;
      return hasJoined ? ['up', ...flags] : [...joinArguments, ...flags];
    },
    ...(options.env === undefined ? {} : { env: options.env }),
    assertReady: async () => {
      if (!log().slice(logSeen).includes(READY_TEXT)) throw new Error('it does not say that it is a node');
      const node = await read<NodeView>(head, `/v1/nodes/${engine.hostname}`);
      const isWell = node.health === 'healthy' || saysClockIsOff(node);
      if (!isWell || !node.connected) throw new Error(JSON.stringify(node));
    },
  });
  try {
    await product.start();
  } catch (error) {
    await product.killAll();
    throw error;
  }
  hasJoined = true;
  return product;
}

/** `join ADDRESS --token TOKEN`, from the command line that the API gives. */
async function askForJoinArguments(head: Instance): Promise<readonly string[]> {
  const answer = await head.api('POST', '/v1/join-tokens', { body: {} });
  if (answer.status !== 200 && answer.status !== 201)
    throw new Error(`POST /v1/join-tokens: ${answer.status} ${answer.text}`);
  const { command } = answer.body as JoinTokenView & { readonly command: string };
  const [program, ...args] = command.split(' ');
  if (program !== 'containeros' || args[0] !== 'join') throw new Error(`no command to join: ${command}`);
  return args;
}
