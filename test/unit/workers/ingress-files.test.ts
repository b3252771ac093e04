/** Which data directories the ingress can be in. */

import { parseConfig } from '../../../workers/config';
import { caddySettings } from '../../../workers/ingress-files';

const settingsIn = (dataDir: string) =>
  caddySettings({ ...parseConfig(['--data-dir', dataDir, '--dev'], {}, true), httpPort: 8080 });

test('an ordinary data directory is taken', () => {
  expect(settingsIn('/var/lib/my containers').directory).toBe('/var/lib/my containers/ingress');
});

test.each([
  ['with placeholders', '/var/{env.HOME}', /has characters that the ingress cannot have/],
  ['that is longer than sockets may be', `/var/${'x'.repeat(100)}`, /is too long for the sockets in it/],
])('a data directory %s is refused, with what to do', (_what, dataDir, words) => {
  expect(() => settingsIn(dataDir)).toThrow(words);
  expect(() => settingsIn(dataDir)).toThrow('Choose another data directory with --data-dir');
});
