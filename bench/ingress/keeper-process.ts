// The ingress keeper in a process of its own, as it is in a node worker: so what it costs is what its process costs, and
// it does not wait for whoever measures.
// Invariant: it ends with the process that started it.
import pino from 'pino';
import { createConsulClient } from '../../adapters/consul/consul-client';
import { createDocumentWriter } from '../../adapters/consul/document-writer';
import { createKeeper, ingressConfigOf } from '../../test/support/ingress-keeper';

/** What is sent to it: whether a new configuration is to have all that requests read. */
export type KeeperCommand = 'settle' | 'stay';

/** Told to whoever started it, whenever the state changes. */
export interface KeeperMessage {
  /** Why requests do not go where they should. */
  readonly trouble: string | undefined;
  /** How many new configurations Caddy has taken. */
  readonly loads: number;
}

const [consulAddress = '', nodeId = '', dataDir = '', httpPort = '', httpsPort] = process.argv.slice(2);
const consul = createConsulClient({ address: consulAddress });
/** Told by whoever started it: nothing settles by itself while something is measured. */
let isToSettle = false;
process.on('message', (told: KeeperCommand) => (isToSettle = told === 'settle'));
let message: KeeperMessage = { trouble: 'not started', loads: 0 };
const tell = (news: Partial<KeeperMessage>): void => {
  message = { ...message, ...news };
  process.send?.(message);
};

const keeper = createKeeper({
  config: ingressConfigOf(dataDir, Number(httpPort), httpsPort === undefined ? undefined : Number(httpsPort)),
  nodeId,
  consul,
  documents: createDocumentWriter(consul),
  throughAdmin: (admin) => ({
    load: async (config) => {
      await admin.load(config);
      tell({ loads: message.loads + 1 });
    },
  }),
  acceptedConnections: () => (isToSettle ? 0 : undefined),
  settleAfterMs: 200,
  readAfterLoadMs: 0,
  onState: (trouble) => tell({ trouble }),
  logger: pino({ level: 'warn' }, pino.destination(2)),
});
keeper.start();
for (const end of ['disconnect', 'SIGTERM']) process.once(end, () => process.exit(0));
