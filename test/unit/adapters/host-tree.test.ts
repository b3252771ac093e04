// The tree of hostnames: each is found, whatever their number, and few others are tried before it.
import { hostTree } from '../../../adapters/ingress/host-tree';

interface CaddyRoute {
  readonly name?: string;
  readonly match: readonly [{ readonly host: readonly string[] }];
  readonly handle?: readonly [{ readonly handler: 'subroute'; readonly routes: readonly CaddyRoute[] }];
}

const treeOf = (count: number): readonly CaddyRoute[] =>
  hostTree(
    Array.from({ length: count }, (_, index) => {
      const hostname = `web${index}.localhost`;
      return { hostname, route: { name: hostname, match: [{ host: [hostname] }] } };
    }),
  ) as readonly CaddyRoute[];

/** As Caddy does it: a group that has no route for it is left again. */
const find = (
  routes: readonly CaddyRoute[],
  hostname: string,
): { readonly name: string | undefined; readonly tried: number } => {
  let tried = 0;
  for (const { name, match, handle } of routes) {
    tried += 1;
    if (!match[0].host.includes(hostname)) continue;
    if (handle === undefined) return { name, tried };
    const found = find(handle[0].routes, hostname);
    tried += found.tried;
    if (found.name !== undefined) return { name: found.name, tried };
  }
  return { name: undefined, tried };
};

test.each([0, 1, 8, 9, 10, 65, 100, 1_000, 5_001])('each of %d hostnames is found', (count) => {
  const tree = treeOf(count);
  for (let index = 0; index < count; index += 1) {
    expect(find(tree, `web${index}.localhost`).name).toBe(`web${index}.localhost`);
  }
  expect(find(tree, 'other.localhost').name).toBeUndefined();
});

test('few are tried before the last of a thousand', () => {
  expect(find(treeOf(1_000), 'web999.localhost').tried).toBeLessThanOrEqual(8 * 4);
  expect(find(treeOf(1_000), 'other.localhost').tried).toBeLessThanOrEqual(8);
});

test('a few hostnames have no groups', () => {
  expect(treeOf(8).map(({ name }) => name)).toEqual(Array.from({ length: 8 }, (_, i) => `web${i}.localhost`));
});

test('a hostname that has several routes is in each group once, or Caddy refuses them', () => {
  const hostnames = Array.from({ length: 30 }, (_, index) => (index % 3 === 0 ? 'many' : `web${index}`));
  const tree = hostTree(
    hostnames.map((hostname) => ({ hostname, route: { match: [{ host: [hostname] }] } })),
  );
  const groups = (tree as readonly CaddyRoute[]).flatMap(({ match, handle }) => [
    match[0].host,
    ...(handle?.[0].routes ?? []).map((route) => route.match[0].host),
  ]);
  for (const group of groups) expect(new Set(group).size).toBe(group.length);
});
