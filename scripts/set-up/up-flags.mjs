// What set-up must know of the command line of `containeros up` and `join`: which engines it will run and which Docker Engine it will use.
// The flags themselves are checked there, so whatever is odd here is passed over.
import { parseArgs } from 'node:util';
import { ENGINES } from './engine-releases.mjs';

/** What a node of another machine's cluster runs. */
const MEMBER_ENGINES = ['consul', 'caddy'];
/** The flags that name an engine which runs elsewhere. Every node has a Caddy of its own. */
const EXTERNAL = { temporal: 'temporal-address', consul: 'consul-address' };

/** @returns {{ asksOnly: boolean, engineNames: string[], env: Record<string, string | undefined> }} */
export function readUpFlags(command, argv, env = process.env) {
  const text = { type: 'string' };
  const { values } = parseArgs({
    args: [...argv],
    strict: false,
    options: {
      'docker-socket': text,
      'temporal-address': text,
      'consul-address': text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  const given = (flag) => {
    const value = values[flag];
    if (typeof value === 'string') return value;
    return env[`CONTAINEROS_${flag.toUpperCase().replaceAll('-', '_')}`] || undefined;
  };
  const runsElsewhere = (name) => EXTERNAL[name] !== undefined && given(EXTERNAL[name]) !== undefined;
  const socket = given('docker-socket');
  return {
    asksOnly: values.help === true,
    engineNames:
      command === 'join' ? MEMBER_ENGINES : Object.keys(ENGINES).filter((name) => !runsElsewhere(name)),
    env: socket === undefined ? env : { ...env, DOCKER_HOST: `unix://${socket}` },
  };
}
