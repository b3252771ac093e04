// Requests that last: a web socket and an upload, and a replica that serves them.
import { request } from 'node:http';
import { connect } from 'node:net';
import { text as readText } from 'node:stream/consumers';
import { eventually } from './wait';

/** Serves one connection: says its version and how much it was sent, or sends all back to whoever asks for an upgrade. */
const SERVE = `#!/bin/sh
read -r line
length=0
while read -r header; do
  header="\${header%?}"
  [ -n "$header" ] || break
  case "$header" in
    Content-Length:*) length="\${header#*: }" ;;
    Upgrade:*) upgrade=1 ;;
  esac
done
if [ -n "$upgrade" ]; then
  printf 'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n'
  exec cat
fi
text="$VERSION got $(busybox head -c "$length" | busybox wc -c)"
printf 'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %s\\r\\n\\r\\n%s' "\${#text}" "$text"
`;

/** What makes the web image (images.ts) serve them on port 80: a container's `env` and `command`. */
export const longRequestServer = (version: string) => ({
  env: [`VERSION=${version}`, `SERVE=${SERVE}`],
  command: [
    '/bin/sh',
    '-c',
    // The first process gets no signal that it does not handle.
    'echo "$SERVE" >/tmp/serve; trap exit TERM; busybox nc -ll -p 80 -e /bin/sh /tmp/serve & wait',
  ],
});

export interface WebSocket {
  /** Sends a line, and waits until it is sent back. */
  echo(line: string): Promise<void>;
  /** Waits until the other end has closed it. @returns when, by performance.now() */
  closed(): Promise<number>;
  destroy(): void;
}

/** @param address host:port that is dialled */
export const openWebSocket = async (address: string, hostname: string): Promise<WebSocket> => {
  const [host = '', port = ''] = address.split(':');
  const connection = connect({ host, port: Number(port) });
  let heard = '';
  let closedAt: number | undefined;
  connection.setEncoding('utf8').on('data', (chunk: string) => (heard += chunk));
  connection.on('error', () => undefined).on('close', () => (closedAt = performance.now()));
  connection.write(
    `GET / HTTP/1.1\r\nHost: ${hostname}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
  );
  await eventually(() => expect(heard).toContain('101 Switching Protocols'));
  return {
    echo: async (line) => {
      connection.write(`${line}\n`);
      await eventually(() => expect(heard).toContain(`\n${line}\n`), { describe: `"${line}" is sent back` });
    },
    closed: () =>
      eventually(
        () => {
          if (closedAt === undefined) throw new Error('it is open');
          return closedAt;
        },
        { timeoutMs: 60_000, describe: 'the web socket is closed' },
      ),
    destroy: () => connection.destroy(),
  };
};

export interface Upload {
  /** Sends one byte more. */
  send(): void;
  /** Ends it, when as many bytes are sent as were said to be. */
  answer(): Promise<string>;
}

/** Begins with the first byte. @param address host:port that is dialled */
export const openUpload = (address: string, hostname: string, bytes: number): Upload => {
  const [host = '', port = ''] = address.split(':');
  const upload = request({
    host,
    port,
    method: 'POST',
    headers: { host: hostname, 'content-length': bytes },
    agent: false,
  });
  const answered = new Promise<string>((resolve, reject) => {
    upload.on('response', (response) => void readText(response).then(resolve, reject));
    upload.on('error', reject);
  });
  answered.catch(() => undefined); // whoever asks for the answer is told
  upload.write('a');
  return {
    send: () => void upload.write('a'),
    answer: () => {
      upload.end();
      return answered;
    },
  };
};
