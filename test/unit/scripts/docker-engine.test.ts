// Set-up finds a Docker Engine that answers, or says in words why there is none.
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { makeSandbox, projectRoot, type Sandbox } from './sandbox';

let sandbox: Sandbox;
let server: Server | undefined;

beforeEach(() => {
  sandbox = makeSandbox();
});

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
  sandbox.dispose();
});

async function answerWith(headers: Record<string, string>, status = 200): Promise<string> {
  const path = join(sandbox.folder, 'docker.sock');
  server = createServer((_request, response) => response.writeHead(status, headers).end('OK'));
  server.listen(path);
  await once(server, 'listening');
  return `unix://${path}`;
}

async function ensure(env: NodeJS.ProcessEnv): Promise<{ code: number | null; output: string }> {
  const script = `
    import { ensureDockerEngine } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'docker-engine.mjs'))};
    import { runEntry } from ${JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'failure.mjs'))};
    await runEntry(async () => void console.log((await ensureDockerEngine()).found));`;
  return sandbox.run(['--input-type=module', '--eval', script], env).ended;
}

it('takes the engine that DOCKER_HOST names', async () => {
  const host = await answerWith({ 'api-version': '1.41' });
  expect((await ensure({ DOCKER_HOST: host })).output).toBe(`API 1.41 at ${host}\n`);
});

it('takes one that listens on TCP', async () => {
  server = createServer((_request, response) => response.writeHead(200, { 'api-version': '1.50' }).end('OK'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  expect((await ensure({ DOCKER_HOST: `tcp://127.0.0.1:${port}` })).output).toMatch(/^API 1\.50 at tcp:/);
});

it('refuses an engine that is too old', async () => {
  const { code, output } = await ensure({ DOCKER_HOST: await answerWith({ 'api-version': '1.40' }) });
  expect(output).toMatch(/speaks API 1\.40; ContainerOS needs 1\.41 \(Docker 20\.10\) or later/);
  expect(code).toBe(1);
});

it.each([
  ['a socket that is not there', () => 'unix:///nowhere/docker.sock', /there is no such socket/],
  ['a port where nothing listens', () => 'tcp://127.0.0.1:1', /the connection was refused/],
  ['an address over ssh', () => 'ssh://somewhere', /ssh:\/\/ addresses are not supported/],
  ['something else', () => answerWith({}, 404), /what answers there is no Docker Engine \(status 404\)/],
])('starts no other engine when DOCKER_HOST is %s', async (_what, host, said) => {
  sandbox.addProgram('dockerd', 'echo DOCKERD-WAS-RUN; exit 1');
  const { code, output } = await ensure({ DOCKER_HOST: await host() });
  expect(output).toMatch(said);
  expect(output).toMatch(/Unset DOCKER_HOST/);
  expect(output).not.toMatch(/DOCKERD-WAS-RUN/);
  expect(code).toBe(1);
});

it('says so when an engine accepts and never answers', async () => {
  const path = join(sandbox.folder, 'silent');
  mkdirSync(path);
  server = createServer(() => {});
  server.listen(join(path, 'docker.sock'));
  await once(server, 'listening');
  const { output } = await ensure({ DOCKER_HOST: `unix://${join(path, 'docker.sock')}` });
  expect(output).toMatch(/nothing came within 5 s/);
});
