// A test on a cluster whose failure shows what was not as desired, what became of the nodes, and what each wrote lately.
import type { OperationView } from '../../../openapi/schemas';
import { events, read } from '../product';
import type { Cluster } from './cluster';
import { findClusterProblems } from './cluster-checker';

const LOG_LINES_SHOWN = 15;
const LOG_LINE_CHARACTERS = 300;

export function clusterScenario(
  name: string,
  cluster: () => Cluster | undefined,
  steps: (cluster: Cluster) => Promise<void>,
  timeoutMs = 180_000,
): void {
  test(
    name,
    async () => {
      const running = cluster();
      if (running === undefined) throw new Error('the cluster did not start');
      const before = new Map(running.nodes.map((node) => [node.name, node.product.log().length]));
      try {
        await steps(running);
      } catch (error) {
        const problems = await findClusterProblems(running).catch((reason: unknown) => [
          `not to be had: ${String(reason)}`,
        ]);
        // Of the whole run: where work goes depends on how often a node was lost before.
        const told = await events(running.instance, 'limit=500').then(
          (all) => all.filter(({ type }) => type.startsWith('node.')),
          (reason: unknown) => [{ at: '', message: `not to be had: ${String(reason)}` }],
        );
        const operations = await read<{ items: readonly OperationView[] }>(
          running.instance,
          '/v1/operations?limit=12',
        ).then(
          ({ items }) =>
            items.map(
              ({ id, state, createdAt, message, plan }) =>
                `${createdAt} ${id} ${state} ${message} [${plan.join('; ')}]`,
            ),
          (reason: unknown) => [`not to be had: ${String(reason)}`],
        );
        const logs = running.nodes.map(({ name: node, product }) => {
          const lines = product.log().slice(before.get(node)).split('\n').slice(-LOG_LINES_SHOWN);
          return [`--- ${node} wrote ---`, ...lines.map((line) => line.slice(0, LOG_LINE_CHARACTERS))].join(
            '\n',
          );
        });
        (error as Error).message += [
          '\n--- not as desired ---',
          ...problems,
          '--- operations ---',
          ...operations,
          '--- nodes ---',
          ...told.map(({ at, message }) => `${at} ${message}`),
          ...logs,
        ].join('\n');
        throw error;
      }
    },
    timeoutMs,
  );
}
