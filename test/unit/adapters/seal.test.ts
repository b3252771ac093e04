// What stands sealed in Consul can be opened by the cluster alone, and only as what it was sealed for.
import { createSealer, generateClusterKey, keyIdOf } from '../../../adapters/certificates/seal';

const sealer = createSealer(generateClusterKey());
const TEXT = '-----BEGIN PRIVATE KEY-----\nçé\n';

test('what was sealed is opened, and is another text each time', () => {
  const [one, other] = [sealer.seal(TEXT, 'example.com'), sealer.seal(TEXT, 'example.com')];
  expect(sealer.open(one, 'example.com')).toBe(TEXT);
  expect(sealer.open(other, 'example.com')).toBe(TEXT);
  expect(one).not.toBe(other);
  expect(one).not.toContain('PRIVATE');
  expect(keyIdOf(one)).toBe(sealer.keyId);
  expect(sealer.open(sealer.seal('', 'empty'), 'empty')).toBe('');
});

test('it is opened only as what it was sealed for', () => {
  const sealed = sealer.seal(TEXT, 'example.com');
  expect(() => sealer.open(sealed, 'example.org')).toThrow(
    'What is sealed for example.org cannot be opened: it was changed, or sealed for something else.',
  );
});

test('another key is told from a spoiled text', () => {
  const other = createSealer(generateClusterKey());
  const sealed = other.seal(TEXT, 'example.com');
  expect(() => sealer.open(sealed, 'example.com')).toThrow(
    `it was sealed with the cluster key ${other.keyId}, and this machine has ${sealer.keyId}`,
  );
  const posed = sealed.replace(other.keyId, sealer.keyId);
  expect(() => sealer.open(posed, 'example.com')).toThrow(/it was changed/);
});

test('every changed character is noticed', () => {
  const sealed = sealer.seal(TEXT, 'example.com');
  const start = sealed.lastIndexOf('.') + 1;
  for (let at = start; at < sealed.length - 1; at += 1) {
    const changed = sealed.slice(0, at) + (sealed[at] === 'A' ? 'B' : 'A') + sealed.slice(at + 1);
    expect(() => sealer.open(changed, 'example.com')).toThrow(/cannot be opened/);
  }
});

test.each(['', 'text', 'sealed1.', 'sealed2.0123456789ab.AAAA', 'sealed1.0123456789ab.'])(
  '"%s" is no sealed text',
  (text) => {
    expect(() => sealer.open(text, 'example.com')).toThrow(/no text that ContainerOS has sealed/);
    expect(keyIdOf(text)).toBeUndefined();
  },
);

test('one that is cut off is told', () => {
  expect(() => sealer.open(`sealed1.${sealer.keyId}.AAAA`, 'example.com')).toThrow(/it is cut off/);
});

test.each([
  '',
  'short',
  Buffer.alloc(31).toString('base64'),
  Buffer.alloc(33).toString('base64'),
  `${generateClusterKey()} `,
])('"%s" is no key', (key) => {
  expect(() => createSealer(key)).toThrow(RangeError);
});
