/** Configurations of Caddy that follow each other. */

import { caddyConfig } from '../../../adapters/ingress/caddy-config';
import { inOtherTurn, turnOf } from '../../../adapters/ingress/handover';

test('a configuration that is written for the other turn is the one that is made for it, and back', () => {
  const settings = { directory: '/data/ingress', listen: ':80', port: 80 };
  const layout = [{ number: 0, slots: 2, isFixed: true, hostname: 'a.example.com' }];
  const [first, second] = ([0, 1] as const).map((turn) =>
    JSON.stringify(caddyConfig(settings, layout, undefined, turn)),
  );
  expect([turnOf(first), turnOf(second)]).toEqual([0, 1]);
  expect(inOtherTurn(first ?? '')).toBe(second);
  expect(inOtherTurn(second ?? '')).toBe(first);
});
