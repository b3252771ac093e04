/** Which places the hostnames get in the proxy's configuration. */

import fc from 'fast-check';

import { SPARE_PLACES, arrange, type Layout, type WantedPlace } from '../../../../domain/ingress/layout';
import { slotCountFor } from '../../../../domain/ingress/slots';

const want = (hostname: string, endpoints = 2): WantedPlace => ({ hostname, endpoints });

const placeOf = (layout: Layout, hostname: string) => layout.find((place) => place.hostname === hostname);

const firstLayout = (wanted: readonly WantedPlace[]): Layout => arrange([], wanted).layout;

test('the first configuration has a fixed place for each hostname, and spare ones', () => {
  const { kind, layout } = arrange([], [want('a'), want('b', 7)]);
  expect(kind).toBe('reload');
  expect(layout.slice(0, 2)).toEqual([
    { number: 0, slots: 12, isFixed: true, hostname: 'a' },
    { number: 1, slots: 60, isFixed: true, hostname: 'b' },
  ]);
  expect(layout.slice(2)).toHaveLength(SPARE_PLACES);
  expect(layout.slice(2).every(({ isFixed, hostname }) => !isFixed && hostname === undefined)).toBe(true);
});

test('a hostname that comes gets a spare place, and one that goes gives it back', () => {
  const before = firstLayout([want('a')]);
  const { kind, layout } = arrange(before, [want('a'), want('b')]);
  expect(kind).toBe('reread');
  expect(placeOf(layout, 'b')).toEqual({ number: 1, slots: 12, isFixed: false, hostname: 'b' });
  expect(arrange(layout, [want('a')])).toEqual({ kind: 'reread', layout: before });
});

test('a fixed place stays its hostname’s when that goes and comes back', () => {
  const before = firstLayout([want('a'), want('b')]);
  const without = arrange(before, [want('b')]);
  expect(without).toEqual({ kind: 'reread', layout: before });
  expect(arrange(without.layout, [want('a'), want('b')])).toEqual({ kind: 'reread', layout: before });
});

test('a place that is given back is nobody’s before it is another’s', () => {
  const before = arrange(firstLayout([]), [want('a')]).layout;
  const { kind, layout } = arrange(before, [want('b')]);
  expect(kind).toBe('reread');
  expect(placeOf(layout, 'b')?.number).not.toBe(placeOf(before, 'a')?.number);
  expect(placeOf(layout, 'a')).toBeUndefined();
  expect(placeOf(arrange(layout, [want('b'), want('c')]).layout, 'c')?.number).toBe(
    placeOf(before, 'a')?.number,
  );
});

test('too many hostnames, or too many endpoints, need a new configuration, in which what is gone has no place', () => {
  const before = firstLayout([want('a'), want('gone')]);
  const many = [want('a'), ...Array.from({ length: SPARE_PLACES + 1 }, (_, index) => want(`n${index}`))];
  const more = arrange(before, many);
  expect(more.kind).toBe('reload');
  expect(placeOf(more.layout, 'a')?.number).toBe(0);
  expect(placeOf(more.layout, 'gone')).toBeUndefined();
  const larger = arrange(before, [want('a', 7)]);
  expect(larger.kind).toBe('reload');
  expect(placeOf(larger.layout, 'a')).toEqual({ number: 0, slots: 60, isFixed: true, hostname: 'a' });
});

test('whatever comes and goes: each hostname has one place with room, and no number has two hostnames', () => {
  const wanted = fc.uniqueArray(
    fc.record({ hostname: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz'), endpoints: fc.nat(40) }),
    { selector: ({ hostname }) => hostname, maxLength: 26 },
  );
  fc.assert(
    fc.property(fc.array(wanted, { maxLength: 12 }), (steps) => {
      let layout: Layout = [];
      const fixed = new Map<number, string>();
      for (const step of steps) {
        const change = arrange(layout, step);
        for (const { hostname, endpoints } of step) {
          const places = change.layout.filter((place) => place.hostname === hostname);
          expect(places).toHaveLength(1);
          expect(places[0]?.slots).toBeGreaterThanOrEqual(slotCountFor(endpoints));
        }
        const numbers = change.layout.map(({ number }) => number);
        expect(new Set(numbers).size).toBe(numbers.length);
        for (const { number, isFixed, hostname = '' } of change.layout) {
          if (!isFixed) continue;
          expect(fixed.get(number) ?? hostname).toBe(hostname);
          fixed.set(number, hostname);
        }
        if (change.kind === 'reread') {
          const shape = ({ number, slots, isFixed }: Layout[number]) => ({ number, slots, isFixed });
          expect(change.layout.map(shape)).toEqual(layout.map(shape));
        }
        layout = change.layout;
      }
    }),
  );
});

const wantWith = (hostname: string, options: WantedPlace['options'] & object): WantedPlace => ({
  ...want(hostname),
  options,
});

test('routes with options stand before plain ones, longer paths first, and share no place with them', () => {
  const { layout } = arrange(
    [],
    [
      want('a'),
      wantWith('a', { path: '/x' }),
      wantWith('a', { path: '/x/y' }),
      wantWith('b', { sticky: true }),
    ],
  );
  expect(layout.slice(0, 4).map(({ hostname, options }) => [hostname, options?.path])).toEqual([
    ['a', '/x/y'],
    ['a', '/x'],
    ['b', undefined],
    ['a', undefined],
  ]);
});

test('options that come, change or go need a new configuration; endpoints and plain hostnames do not', () => {
  const routed = wantWith('a', { path: '/x', sticky: true });
  const before = firstLayout([want('a'), routed]);
  expect(arrange(before, [want('a'), { ...routed, endpoints: 5 }, want('b')]).kind).toBe('reread');
  expect(arrange(before, [want('a'), wantWith('a', { path: '/x' })]).kind).toBe('reload');
  expect(arrange(before, [want('a'), routed, wantWith('b', { sticky: true })]).kind).toBe('reload');
  const without = arrange(before, [want('a')]);
  expect(without.kind).toBe('reload');
  expect(without.layout.some(({ options }) => options !== undefined)).toBe(false);
  const plain = arrange(firstLayout([wantWith('a', { sticky: true })]), [want('a')]);
  expect([plain.kind, placeOf(plain.layout, 'a')?.options]).toEqual(['reload', undefined]);
});

test('wildcards stand behind all other places, those with options first, and get no spare one', () => {
  const wanted = [
    want('*.a.example'),
    wantWith('*.a.example', { path: '/x' }),
    want('b.a.example'),
    wantWith('c.a.example', { path: '/y' }),
  ];
  const before = firstLayout(wanted);
  const told = before.map(({ hostname = 'spare', options }) => `${hostname}${options?.path ?? ''}`);
  expect([...new Set(told)]).toEqual([
    'c.a.example/y',
    'b.a.example',
    'spare',
    '*.a.example/x',
    '*.a.example',
  ]);
  // A name below it that comes is found before it.
  const { kind, layout } = arrange(before, [...wanted, want('d.a.example')]);
  expect(kind).toBe('reread');
  const order = layout.map(({ hostname }) => hostname);
  expect(order.indexOf('d.a.example')).toBeLessThan(order.indexOf('*.a.example'));
  expect(arrange(before, [...wanted, want('*.b.example')]).kind).toBe('reload');
});

test('a name that goes leaves no place before the wildcard that stands for it', () => {
  const before = firstLayout([want('*.a.example'), want('b.a.example'), want('c.example')]);
  const { kind, layout } = arrange(before, [want('*.a.example'), want('c.example')]);
  expect([kind, placeOf(layout, 'b.a.example')]).toEqual(['reload', undefined]);
  expect(arrange(before, [want('*.a.example'), want('b.a.example')]).kind).toBe('reread');
});
