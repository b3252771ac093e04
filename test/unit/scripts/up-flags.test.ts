// Set-up prepares what the flags of `up` will use, and no more.
import { join } from 'node:path';
import { makeSandbox, projectRoot } from './sandbox';

interface Read {
  readonly asksOnly: boolean;
  readonly engineNames: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

async function read(argv: readonly string[], env: NodeJS.ProcessEnv = {}, command = 'up'): Promise<Read> {
  const sandbox = makeSandbox();
  const module = JSON.stringify(join(projectRoot, 'scripts', 'set-up', 'up-flags.mjs'));
  const script = `
    import { readUpFlags } from ${module};
    console.log(JSON.stringify(readUpFlags(${JSON.stringify(command)}, ${JSON.stringify(argv)}, ${JSON.stringify(env)})));`;
  const { output } = await sandbox.run(['--input-type=module', '--eval', script]).ended;
  sandbox.dispose();
  return JSON.parse(output) as Read;
}

it('runs all engines by default', async () => {
  expect(await read(['--dev', '--api-port', '9000'])).toEqual({
    asksOnly: false,
    engineNames: ['temporal', 'consul', 'caddy'],
    env: {},
  });
});

it('leaves out an engine that runs elsewhere', async () => {
  const byFlag = await read(['--temporal-address=db:7233']);
  expect(byFlag.engineNames).toEqual(['consul', 'caddy']);
  const byVariable = await read([], {
    CONTAINEROS_CONSUL_ADDRESS: 'http://c:8500',
    CONTAINEROS_TEMPORAL_ADDRESS: '',
  });
  expect(byVariable.engineNames).toEqual(['temporal', 'caddy']);
});

it('runs no Temporal on a machine that joins', async () => {
  expect((await read(['10.0.0.1', '--token', 'x'], {}, 'join')).engineNames).toEqual(['consul', 'caddy']);
});

it('looks for the Docker Engine where the flag says', async () => {
  const { env } = await read(['--docker-socket', '/tmp/other.sock'], { DOCKER_HOST: 'unix:///a' });
  expect(env['DOCKER_HOST']).toBe('unix:///tmp/other.sock');
});

it('knows a question for help, and passes over flags that it does not know', async () => {
  expect((await read(['--what', '--help'])).asksOnly).toBe(true);
});
