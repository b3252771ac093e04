import { describeValidity } from '../../../../domain/ingress/certificate-words';

const DAY = 86_400_000;
const NOW = 1_000 * DAY;

test.each<readonly [string, number, number, 'uploaded' | 'acme' | 'internal', string, string]>([
  ['fresh', -1, 90, 'acme', 'valid', 'Expires in 90 days, and is renewed before.'],
  ['fresh, uploaded', -1, 90, 'uploaded', 'valid', 'Expires in 90 days.'],
  ['soon', -87, 3, 'uploaded', 'expiring', 'Expires in 3 days. Upload a new one.'],
  [
    'soon, of an authority',
    -87,
    3,
    'acme',
    'expiring',
    'Expires in 3 days. It should have been renewed: look at the events.',
  ],
  ['today', -90, 0.5, 'uploaded', 'expiring', 'Expires in 12 hours. Upload a new one.'],
  ['an hour', -90, 1 / 24, 'uploaded', 'expiring', 'Expires in 1 hour. Upload a new one.'],
  ['now', -90, 0, 'uploaded', 'expired', 'Expired less than an hour ago. Upload a new one.'],
  [
    'long ago',
    -90,
    -7,
    'internal',
    'expired',
    'Expired 7 days ago. It should have been renewed: look at the log of the control plane.',
  ],
  ['early', 5, 90, 'uploaded', 'not_yet_valid', 'Not valid for another 5 days.'],
])('%s', (_what, from, to, source, state, message) => {
  expect(
    describeValidity({ source, notBeforeMs: NOW + from * DAY, notAfterMs: NOW + to * DAY }, NOW),
  ).toEqual({
    state,
    message,
  });
});

test('what keeps it from being renewed is said instead of what is to be done', () => {
  const wordsOf = (days: number) =>
    describeValidity(
      { source: 'acme', notBeforeMs: NOW - 90 * DAY, notAfterMs: NOW + days * DAY },
      NOW,
      'Renewing it fails: it leads elsewhere.',
    );
  expect(wordsOf(30)).toEqual({
    state: 'valid',
    message: 'Expires in 30 days. Renewing it fails: it leads elsewhere.',
  });
  expect(wordsOf(3)).toEqual({
    state: 'expiring',
    message: 'Expires in 3 days. Renewing it fails: it leads elsewhere.',
  });
  expect(wordsOf(-3)).toEqual({
    state: 'expired',
    message: 'Expired 3 days ago. Renewing it fails: it leads elsewhere.',
  });
});
