/** A node worker that runs commands as a test says: its end of contracts/exec.ts. */

import { once } from 'node:events';
import { request, type ClientRequest, type IncomingMessage } from 'node:http';

import {
  createFrameDecoder,
  encodeControl,
  encodeFrames,
  type ControlFromNode,
  type ExecFrame,
  type ExecRequest,
} from '../../../contracts/exec';
import { nodeRequestsPath, nodeStreamPath } from '../../../contracts/node-stream';
import type { ObservedReplica } from '../../../domain/model';
import { buildReplica } from '../../support/builders';
import { httpRequest, openRequest } from '../../support/http';
import { eventually } from '../../support/wait';

import { TOKEN, replicaDocument, type ApiUnderTest } from './api-under-test';

const auth = { authorization: `Bearer ${TOKEN}` };

const container = (name: string) => ({
  name,
  containerId: name,
  image: 'nginx:1.27',
  imageId: 'sha256:0',
  running: true,
  restartCount: 0,
});

/** A replica on `node-1`. */
export const execReplica = (
  id = 'web-1',
  containers = ['app'],
  more: Partial<ObservedReplica> = {},
): Record<string, unknown> =>
  replicaDocument(buildReplica(id, 'node-1', { containers: containers.map(container), ...more }));

/** The node's end of one command. */
export interface Command {
  readonly wanted: ExecRequest;
  readonly sending: ClientRequest;
  readonly received: ExecFrame[];
  /** What has come of the channel, as text. */
  input(channel?: 'stdin' | 'control'): string;
  say(control: ControlFromNode): void;
  write(channel: 'stdout' | 'stderr', data: string | Buffer): void;
  isCut(): boolean;
}

export interface Refusal {
  readonly error: string;
  readonly message: string;
}

/** The worker of `node-1`, which hands each command to `run`, or refuses all of them. */
export const connectExecNode = async (
  api: ApiUnderTest,
  run: (command: Command) => void | Promise<void>,
  refuse?: Refusal,
) => {
  const commands: Command[] = [];
  const stream = await openRequest(`${api.url}${nodeRequestsPath('node-1')}`, {
    headers: auth,
    timeoutMs: 30_000,
  });
  stream.on('error', () => undefined);
  stream.setEncoding('utf8');
  const answer = async (wanted: ExecRequest) => {
    const path = `${api.url}${nodeStreamPath(wanted.requestId)}`;
    if (refuse !== undefined) {
      await httpRequest(`${path}?${new URLSearchParams({ ...refuse }).toString()}`, {
        method: 'POST',
        headers: auth,
      });
      return;
    }
    const sending = request(path, { method: 'POST', headers: auth, agent: false });
    let isCut = false;
    sending.on('error', () => (isCut = true)).on('close', () => (isCut = true));
    sending.flushHeaders();
    const [response] = (await once(sending, 'response')) as [IncomingMessage];
    expect(response.statusCode).toBe(200);
    const received: ExecFrame[] = [];
    const decoder = createFrameDecoder();
    response.on('data', (chunk: Buffer) => received.push(...decoder.push(chunk)));
    response.on('error', () => undefined);
    const command: Command = {
      wanted,
      sending,
      received,
      input: (channel = 'stdin') =>
        received
          .flatMap((frame) => (frame.channel === channel ? [frame.data.toString('utf8')] : []))
          .join(''),
      say: (control) => void sending.write(encodeControl(control)),
      write: (channel, data) => void sending.write(encodeFrames(channel, Buffer.from(data))),
      isCut: () => isCut,
    };
    commands.push(command);
    command.say({ kind: 'started', container: wanted.container ?? 'app' });
    await run(command);
  };
  stream.on('data', (text: string) => {
    for (const line of text.split('\n')) if (line !== '') void answer(JSON.parse(line) as ExecRequest);
  });
  await eventually(() => expect(api.nodeStreams.isConnected('node-1')).toBe(true));
  return { commands, close: () => stream.destroy() };
};
