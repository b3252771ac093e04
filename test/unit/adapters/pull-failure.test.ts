import { classifyPullFailure } from '../../../adapters/docker/image-puller';
import { withTag } from '../../../domain/release-images';
import { startFailureReason } from '../../../adapters/docker/docker-error';

test.each([
  ['manifest for web:v9 not found: manifest unknown: manifest unknown', 'image_not_found', true],
  [
    "pull access denied for nginxx, repository does not exist or may require 'docker login': denied",
    'image_not_found',
    true,
  ],
  ['no matching manifest for linux/arm64/v8 in the manifest list entries', 'image_not_found', true],
  ['write /var/lib/docker/tmp/GetImageBlob1: no space left on device', 'no_capacity', true],
  ['Get "https://r.example/v2/": http: server gave HTTP response to HTTPS client', 'pull_failed', true],
  ['Get "https://r.example/v2/": x509: certificate signed by unknown authority', 'pull_failed', true],
  ['invalid reference format', 'invalid', true],
  ['Get "https://r.example/v2/": dial tcp: lookup r.example: no such host', 'pull_failed', false],
  ['Get "https://r.example/v2/": dial tcp 10.0.0.9:443: connect: connection refused', 'pull_failed', false],
  ['toomanyrequests: You have reached your pull rate limit', 'pull_failed', false],
  ['unexpected EOF', 'pull_failed', false],
  ['received unexpected HTTP status: 503 Service Unavailable', 'pull_failed', false],
])('%s', (message, code, isFinal) => {
  expect(classifyPullFailure(new Error(message))).toMatchObject({ code, isFinal });
});

test.each([
  ['no matching manifest for linux/arm64/v8 in the manifest list entries', true],
  ['no match for platform in manifest sha256:0123: not found', true],
  ['manifest for web:v9 not found: manifest unknown: manifest unknown', undefined],
])('whether there are builds for others: %s', (message, isForAnother) => {
  expect(classifyPullFailure(new Error(message)).isForAnother).toBe(isForAnother);
});

test("an engine that is away is not the registry's fault", () => {
  const error = Object.assign(new Error('connect ENOENT /run/docker.sock'), { code: 'ENOENT' });
  expect(classifyPullFailure(error)).toMatchObject({ code: 'unavailable', isFinal: false });
});

test.each([
  ['nginx', 'nginx:latest'],
  ['nginx:1', 'nginx:1'],
  ['localhost:5000/nginx', 'localhost:5000/nginx:latest'],
  ['localhost:5000/nginx:1', 'localhost:5000/nginx:1'],
  [`nginx@sha256:${'a'.repeat(64)}`, `nginx@sha256:${'a'.repeat(64)}`],
])('%s is pulled as %s', (image, reference) => {
  expect(withTag(image)).toBe(reference);
});

test.each([
  [
    'OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "/nope": stat /nope: no such file or directory: unknown',
    'the command "/nope" does not exist in the image',
  ],
  [
    'OCI runtime create failed: runc create failed: exec: "app": executable file not found in $PATH: unknown',
    'the command "app" does not exist in the image',
  ],
  ['exec: "/app": permission denied: unknown', 'the command "/app" is not executable in the image'],
  ['No command specified', 'the image has no command, and none was given'],
  ['exec user process caused: exec format error', 'the image is made for another processor architecture'],
  ['unable to find user app: no matching entries in passwd file', 'the user app does not exist in the image'],
])('%s', (message, reason) => {
  expect(startFailureReason(new Error(message))).toBe(reason);
});
