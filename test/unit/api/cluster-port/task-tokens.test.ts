// Task tokens: what is sealed for a node opens for that node, and for nobody else.
import fc from 'fast-check';

import { createTaskTokens } from '../../../../api/cluster-port/task-tokens';

const tokens = createTaskTokens('internal-token');
const id = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
const bytes = fc.uint8Array({ minLength: 1, maxLength: 300 });

test('a token opens for the node that it was sealed for, also in another process', () => {
  fc.assert(
    fc.property(id, bytes, (nodeId, token) => {
      const sealed = tokens.seal(nodeId, token);
      expect(createTaskTokens('internal-token').open(nodeId, sealed)).toEqual(Buffer.from(token));
    }),
  );
});

test('it does not open for another node, whatever is moved between id and token', () => {
  fc.assert(
    fc.property(id, id, bytes, (nodeId, other, token) => {
      fc.pre(nodeId !== other);
      expect(tokens.open(other, tokens.seal(nodeId, token))).toBeUndefined();
      const moved = Buffer.concat([
        tokens.seal(`${nodeId}${other}`, token).subarray(0, 17),
        Buffer.from(other),
        token,
      ]);
      expect(tokens.open(nodeId, moved)).toBeUndefined();
    }),
  );
});

test('a change of any bit is noticed', () => {
  fc.assert(
    fc.property(id, bytes, fc.nat(), (nodeId, token, at) => {
      const sealed = tokens.seal(nodeId, token);
      const byte = at % sealed.length;
      sealed[byte] = (sealed[byte] ?? 0) ^ (1 << (at % 8));
      expect(tokens.open(nodeId, sealed)).toBeUndefined();
    }),
  );
});

test('what was never sealed does not open, and neither does what another installation sealed', () => {
  fc.assert(
    fc.property(id, fc.uint8Array({ maxLength: 300 }), (nodeId, token) => {
      expect(tokens.open(nodeId, token)).toBeUndefined();
      expect(tokens.open(nodeId, createTaskTokens('other').seal(nodeId, token))).toBeUndefined();
    }),
  );
});
