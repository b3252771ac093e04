/** Where commands find the API and the password, and what they say when they do not. */

import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { findAccess } from '../../../cli/access';
import { CommandError } from '../../../cli/run';
import { PASSWORD, startApi, useApi } from '../api/api-under-test';
import { createFakeKv } from '../api/fake-kv';

import { at, startCli } from './cli-under-test';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-cli-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (path: string, text: string): string => {
  const file = join(folder, path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, text);
  return file;
};

const find = (flags: Record<string, string> = {}, environment: Record<string, string> = {}) =>
  findAccess({ flag: (name) => flags[name], environment, defaultDataDir: join(folder, 'default') });

const failure = (...given: Parameters<typeof find>): readonly [code: string, message: string] => {
  try {
    find(...given);
  } catch (error) {
    if (error instanceof CommandError) return [error.code, error.message];
    throw error;
  }
  throw new Error('it was accepted');
};

describe('the address', () => {
  test.each([
    [{}, {}, 'http://127.0.0.1:8000'],
    [{}, { CONTAINEROS_API_URL: '' }, 'http://127.0.0.1:8000'],
    [{}, { CONTAINEROS_API_URL: 'http://127.0.0.1:9000/' }, 'http://127.0.0.1:9000'],
    [{ api: 'https://localhost/a/b/' }, { CONTAINEROS_API_URL: 'http://x' }, 'https://localhost/a/b'],
    [{ api: 'http://[::1]:8000' }, {}, 'http://[::1]:8000'],
  ])('of %j and %j is found', (flags: { api?: string }, environment, url) => {
    write('default/password', 'secret-of-here\n');
    expect(find(flags, environment).apiUrl).toBe(url);
  });

  test.each([
    ['localhost:8000', '--api must be a URL like http://127.0.0.1:8000, not "localhost:8000".'],
    ['10.0.0.5:8000', '--api must be a URL like http://127.0.0.1:8000, not "10.0.0.5:8000".'],
    ['ftp://x', '--api must be a URL like http://127.0.0.1:8000, not "ftp://x".'],
    [
      'http://me:pw@x',
      '--api must not hold a password. Give it with --password-file FILE or CONTAINEROS_PASSWORD.',
    ],
    ['http://x/?password=pw', '--api must end with its path: leave out what follows.'],
  ])('%s is refused', (api, message) => {
    expect(failure({ api })).toEqual(['invalid', message]);
  });

  test('is called by the name of its variable', () => {
    expect(failure({}, { CONTAINEROS_API_URL: 'x' })[1]).toMatch(/^CONTAINEROS_API_URL must be a URL/);
  });
});

describe('the password', () => {
  test('comes from flags, then variables, then the installation of this machine', () => {
    const file = write('file', ' from-file \n');
    const variableFile = write('variable-file', 'from-variable-file');
    write('flag/password', 'from-data-dir');
    write('variable/password', 'from-variable-dir');
    write('default/password', 'from-default');
    const all = {
      CONTAINEROS_PASSWORD: 'from-variable',
      CONTAINEROS_PASSWORD_FILE: variableFile,
      CONTAINEROS_DATA_DIR: join(folder, 'variable'),
    };
    const { CONTAINEROS_PASSWORD: _1, ...withoutPassword } = all;
    const { CONTAINEROS_PASSWORD_FILE: _2, ...withDirectory } = withoutPassword;
    const flags = { 'password-file': file, 'data-dir': join(folder, 'flag') };
    expect(find(flags, all)).toMatchObject({ password: 'from-file', passwordSource: file });
    expect(find({ 'data-dir': join(folder, 'flag') }, all).password).toBe('from-data-dir');
    expect(find({}, all)).toMatchObject({
      password: 'from-variable',
      passwordSource: 'CONTAINEROS_PASSWORD',
    });
    expect(find({}, withoutPassword).password).toBe('from-variable-file');
    expect(find({}, withDirectory).password).toBe('from-variable-dir');
    expect(find().password).toBe('from-default');
  });

  test('of this machine is sent to another one only when somebody says so', () => {
    write('default/password', 'secret-of-here');
    const remote = { api: 'http://10.0.0.5:8000' };
    expect(failure(remote)).toEqual([
      'unauthenticated',
      "There is no password for http://10.0.0.5:8000: that of this machine's installation is sent to no other machine by itself. Give it with --password-file FILE or CONTAINEROS_PASSWORD.",
    ]);
    expect(failure(remote, { CONTAINEROS_DATA_DIR: join(folder, 'default') })[0]).toBe('unauthenticated');
    expect(failure({ api: 'http://127.0.0.1.evil.example' })[0]).toBe('unauthenticated');
    expect(find({ ...remote, 'data-dir': join(folder, 'default') }).password).toBe('secret-of-here');
    expect(find(remote, { CONTAINEROS_PASSWORD: 'other' }).password).toBe('other');
  });

  test('that cannot be read is told with where, why, and what to do', () => {
    const file = join(folder, 'default', 'password');
    expect(failure()).toEqual([
      'unauthenticated',
      `The password cannot be read from ${file}: it does not exist. ContainerOS makes it when it starts without a password of your own. Otherwise give the password with --password-file FILE or CONTAINEROS_PASSWORD; with containeros up --dev it is CONTAINEROS_PASSWORD=dev.`,
    ]);
    expect(failure({ 'password-file': folder })[1]).toContain(`${folder}: it is a directory.`);
    expect(failure({ 'password-file': write('empty', '\n') })[1]).toContain('is empty');
    expect(failure({ 'password-file': write('two', 'a\nb\n') })[1]).toContain(
      'one password and nothing else',
    );
  });

  test('of somebody else is told as such', () => {
    const file = write('closed', 'secret');
    chmodSync(file, 0);
    const ownId = process.geteuid?.() ?? 0;
    // Root may read everything.
    if (ownId === 0) process.seteuid?.(65_534);
    try {
      expect(failure({ 'password-file': file })[1]).toContain(
        'this user may not read it. Run the command as the user that runs ContainerOS',
      );
    } finally {
      process.seteuid?.(ownId);
    }
  });
});

describe('an API', () => {
  const use = useApi();
  const nodes = (url: string, password = PASSWORD) =>
    startCli(['nodes'], { environment: { CONTAINEROS_API_URL: url, CONTAINEROS_PASSWORD: password } }).ended;

  test('refuses a wrong password, and the message says where it came from', async () => {
    expect(await nodes(use.api.url, 'wrong')).toEqual({
      out: '',
      err: 'containeros: The password is wrong. It was taken from CONTAINEROS_PASSWORD; give the right one with --password-file FILE or CONTAINEROS_PASSWORD.\n',
      end: 'unauthenticated',
    });
  });

  test('that does not listen is told with where, why, and what to do', async () => {
    await use.api.close();
    expect(await nodes(use.api.url)).toEqual({
      out: '',
      err: `containeros: The API at ${use.api.url} cannot be reached: the connection was refused. Start ContainerOS with containeros up, or say where the API is with --api URL or CONTAINEROS_API_URL.\n`,
      end: 'unavailable',
    });
  });

  test('whose name nobody knows is told as such', async () => {
    const { err, end } = await nodes('http://no-such-host.invalid');
    expect([err, end]).toEqual([
      expect.stringContaining('the host name could not be resolved'),
      'unavailable',
    ]);
  });

  test('that has not read the state of the cluster says so itself', async () => {
    const kv = createFakeKv();
    kv.away(true);
    const starting = await startApi({ kv });
    try {
      const { err, end } = await nodes(starting.url);
      expect([err, end]).toEqual([
        expect.stringContaining('has not been read from Consul yet'),
        'unavailable',
      ]);
    } finally {
      await starting.close();
    }
  });
});

describe('a password with every kind of character', () => {
  const password = ' päß:wörd\u{1f511} ';
  const use = useApi({ config: { password } });

  test('is understood by the API', async () => {
    const environment = { CONTAINEROS_API_URL: use.api.url, CONTAINEROS_PASSWORD: password };
    expect((await startCli(['nodes'], { environment }).ended).end).toBe(0);
  });
});

describe('what is not the API', () => {
  const serve = async (server: Server, steps: (url: string) => Promise<void>) => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      await steps(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
      server.close();
    }
  };
  const answering = (listener: RequestListener, message: (url: string) => string, code: string) =>
    serve(createServer(listener), async (url) => {
      expect(await startCli(['nodes'], at(url)).ended).toEqual({
        out: '',
        err: `containeros: ${message(url)}\n`,
        end: code,
      });
    });

  const notTheApi = (status: number) => (url: string) =>
    `What answers at ${url} is not the API of ContainerOS: it said ${status}, and nothing that can be understood. Say where the API is with --api URL.`;

  test('is told: a page', () => answering((_, answer) => answer.end('<html>'), notTheApi(200), 'invalid'));

  test('is told: JSON of something else', () =>
    answering((_, answer) => answer.end('{"a":1}'), notTheApi(200), 'invalid'));

  test('is told: an error of something else', () =>
    answering((_, answer) => answer.writeHead(404).end('nothing'), notTheApi(404), 'invalid'));

  test('is told: a redirection, without the characters that drive terminals', () =>
    answering(
      (_, answer) => answer.writeHead(308, { location: 'https://x/\u009b31m' }).end(),
      (url) =>
        `The API is not at ${url}, which leads on to https://x/\ufffd31m. Say where it is with --api URL.`,
      'invalid',
    ));

  test('is told: a proxy without the API behind it', () =>
    answering(
      (_, answer) => answer.writeHead(502).end('Bad Gateway'),
      (url) => `What stands before the API at ${url} does not reach it (502). Try again in a moment.`,
      'unavailable',
    ));

  test('is told: an API of a later version with a code of its own', () =>
    answering(
      (_, answer) =>
        answer
          .writeHead(418)
          .end(JSON.stringify({ code: 'teapot', detail: 'It is \u001b[1mtea\nin a pot.' })),
      () => 'It is \ufffd[1mtea\nin a pot.',
      'teapot',
    ));

  test('is told: something that speaks no HTTP', () =>
    serve(
      createTcpServer((socket) => socket.on('error', () => undefined).end('SSH-2.0-x\r\n')),
      async (url) => {
        const { err, end } = await startCli(['nodes'], at(url)).ended;
        expect([err, end]).toEqual([expect.stringContaining('it does not speak HTTP there'), 'unavailable']);
        const tls = await startCli(['nodes'], at(url.replace('http:', 'https:'))).ended;
        expect([tls.err, tls.end]).toEqual([
          expect.stringContaining('it does not speak TLS there'),
          'unavailable',
        ]);
      },
    ));
});
