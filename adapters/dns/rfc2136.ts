/**
 * TXT records by dynamic update (RFC 2136), as BIND, Knot and PowerDNS take it, signed with a shared
 * key (TSIG, HMAC-SHA256). Over TCP, where nobody else can answer in the server's place unseen.
 */

import { randomInt } from 'node:crypto';
import { connect } from 'node:net';

import type { DnsProvider } from '../../contracts/acme';

import { createZoneFinder, dnsFailure, TTL_SECONDS } from './dns-api';
import {
  RCODE,
  RECORD,
  TSIG_ERROR,
  readReply,
  signMessage,
  soaQuery,
  txtUpdate,
  type DnsReply,
  type TsigKey,
} from './dns-message';

const NAME = 'the DNS server';
const TIMEOUT_MS = 20_000;
const PORT = 53;

export interface Rfc2136Credentials {
  /** Host, or host and port: `10.0.0.1`, `ns1.example.com:5353`, `[2001:db8::1]:53`. */
  readonly nameserver: string;
  readonly keyName: string;
  /** Base64. */
  readonly keySecret: string;
}

interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

const addressOf = (nameserver: string): ServerAddress | undefined => {
  const [, bracketed, plain, port] =
    /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/.exec(nameserver) ?? [];
  // IPv6 may stand without brackets where no port follows.
  const host = bracketed ?? plain ?? (/^[0-9a-fA-F:.]+$/.test(nameserver) ? nameserver : undefined);
  return host === undefined || Number(port ?? PORT) > 65_535
    ? undefined
    : { host, port: Number(port ?? PORT) };
};

/** @returns what is wrong with them, in words that tell no secret */
export const whyNoRfc2136 = ({ nameserver, keySecret }: Rfc2136Credentials): string | undefined => {
  if (addressOf(nameserver) === undefined)
    return `wants RFC2136_NAMESERVER like ns1.example.com or 10.0.0.1:53, not ${nameserver}`;
  return /^[A-Za-z0-9+/]{4,}={0,2}$/.test(keySecret)
    ? undefined
    : 'wants RFC2136_TSIG_SECRET in base64, as tsig-keygen writes it';
};

/** One request and its answer, each behind its length. */
const exchange = ({ host, port }: ServerAddress, message: Buffer): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const chunks: Buffer[] = [];
    const timer = setTimeout(() => socket.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
    socket.once('connect', () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      socket.write(Buffer.concat([length, message]));
    });
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      const all = Buffer.concat(chunks);
      if (all.length < 2 || all.length < 2 + all.readUInt16BE(0)) return;
      resolve(all.subarray(2, 2 + all.readUInt16BE(0)));
      socket.destroy();
    });
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error('it closed the connection'));
    });
  });

const whyRefused = ({ rcode, tsigError }: DnsReply): string => {
  if (tsigError === TSIG_ERROR.badTime)
    return 'its clock and that of this machine are minutes apart. Set both by NTP.';
  if (tsigError === TSIG_ERROR.badKey || tsigError === TSIG_ERROR.badSignature)
    return 'it does not know this key. Look whether RFC2136_TSIG_KEY and RFC2136_TSIG_SECRET are those of the server, for hmac-sha256.';
  if (rcode === RCODE.refused)
    return 'it refuses. Look whether the key may change TXT records of the zone (update-policy, allow-update).';
  return `it answered with code ${rcode}. Look into the log of the server.`;
};

export const createRfc2136Dns = (credentials: Rfc2136Credentials): DnsProvider => {
  const address = addressOf(credentials.nameserver);
  const key: TsigKey = {
    name: credentials.keyName.replace(/\.$/, ''),
    secret: Buffer.from(credentials.keySecret, 'base64'),
  };
  const nowSeconds = () => Math.floor(Date.now() / 1_000);

  const ask = async (what: string, messageOf: (id: number) => Buffer): Promise<DnsReply> => {
    if (address === undefined) throw dnsFailure(NAME, what, `${credentials.nameserver} is no address.`);
    const id = randomInt(65_536);
    const { message, mac } = signMessage(messageOf(id), key, nowSeconds());
    let reply: DnsReply;
    try {
      const bytes = await exchange(address, message);
      reply = readReply(bytes, { key, requestMac: mac, nowSeconds: nowSeconds() });
    } catch (error) {
      const why = `${credentials.nameserver} does not answer as a DNS server: ${(error as Error).message}. It is tried again.`;
      throw dnsFailure(NAME, what, why, error);
    }
    // Who does not know the key cannot sign that.
    if (reply.tsigError !== 0) throw dnsFailure(NAME, what, whyRefused(reply));
    if (reply.id !== id || !reply.isSigned)
      throw dnsFailure(
        NAME,
        what,
        `the answer of ${credentials.nameserver} is not signed with the key. ${whyRefused(reply)}`,
      );
    return reply;
  };

  const zones = createZoneFinder(NAME, async (zone) => {
    const what = `say whether it has the zone ${zone}`;
    const reply = await ask(what, (id) => soaQuery(id, zone));
    const { rcode, isAuthoritative, answers } = reply;
    if (rcode === RCODE.none)
      return isAuthoritative && answers.some(({ name, type }) => name === zone && type === RECORD.soa)
        ? { id: zone, name: zone }
        : undefined;
    if (rcode === RCODE.noName || rcode === RCODE.refused || rcode === RCODE.notAuthoritative)
      return undefined;
    throw dnsFailure(NAME, what, whyRefused(reply));
  });

  const change = async (kind: 'add' | 'remove', name: string, value: string): Promise<void> => {
    const { name: zone } = await zones.zoneOf(name);
    const what = `${kind} a TXT record`;
    const reply = await ask(what, (id) =>
      txtUpdate(id, { kind, zone, name, value, ttlSeconds: TTL_SECONDS }),
    );
    if (reply.rcode !== RCODE.none) throw dnsFailure(NAME, what, whyRefused(reply));
  };

  return {
    name: `${NAME} ${credentials.nameserver}`,
    handles: zones.handles,
    addTxt: (name, value) => change('add', name, value),
    removeTxt: (name, value) => change('remove', name, value),
  };
};
