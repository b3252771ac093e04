/** What Caddy asks of a request to a route with a limit. */

import { countRequest, parseQuestion } from '../../../adapters/ingress/rate-limit';

test('what is asked is understood', () => {
  const handler = JSON.stringify(countRequest('/data/ingress', 12, { requests: 100, perMs: 60_000 }));
  const [, uri = ''] = /"uri":"([^"]+)"/.exec(handler) ?? [];
  expect(parseQuestion(uri)).toEqual({ place: 12, requests: 100, perMs: 60_000 });
});

test.each(['/', '/1/2', '/1/0/1000/x', '/1/1/0/x', '/a/1/1000/x', '/1/1/1000', '/-1/1/1000/x'])(
  '%s is no question',
  (uri) => {
    expect(parseQuestion(uri)).toBeUndefined();
  },
);
