/** What keeps a node from taking work, in words. */

import type { NodeState } from '../../../../workers/node/node';
import { whyNotReady } from '../../../../workers/node/start-node-worker';

const config = { nodeId: 'pi', dockerSocketPath: '/run/docker.sock' };
const well: NodeState = { hasEngine: true, isKnown: true, agentNodeName: 'pi' };

test.each<[string, Partial<NodeState>, boolean, string | undefined]>([
  ['all is well', {}, true, undefined],
  ['the engine is away', { hasEngine: false }, true, 'the Docker Engine at /run/docker.sock does not answer'],
  ['its document is not in Consul', { isKnown: false }, true, 'the node is not in Consul yet'],
  ['Temporal is away', {}, false, 'the node takes no work from Temporal'],
  [
    'the agent is of another node',
    { agentNodeName: 'host-7' },
    true,
    "the Consul agent's node is called host-7 and this one pi: start it with --node-name host-7, or give the agent this name",
  ],
])('%s', (_, change, isPolling, words) => {
  expect(whyNotReady(config, { ...well, ...change }, isPolling)).toBe(words);
});

test('before the agent has answered nothing is said of its name', () => {
  expect(whyNotReady(config, { hasEngine: false, isKnown: false }, false)).toBe(
    'the Docker Engine at /run/docker.sock does not answer',
  );
});
