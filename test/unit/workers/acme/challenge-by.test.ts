import type { DnsProvider } from '../../../../contracts/acme';
import { IssueError } from '../../../../domain/certificates/acme-problem';
import { challengeBy } from '../../../../workers/acme/public-certificates';

const providerOf = (handles: DnsProvider['handles']): DnsProvider => ({
  name: 'Test DNS',
  handles,
  addTxt: () => Promise.reject(new Error('nothing is to be added')),
  removeTxt: () => Promise.reject(new Error('nothing is to be removed')),
});

test('without a provider, a hostname is proved by HTTP, and a wildcard cannot be', async () => {
  const challengeFor = challengeBy(undefined);
  expect(await challengeFor('shop.example.org')).toBe('http-01');
  expect(await challengeFor('*.example.org')).toBeUndefined();
});

test('with one, what is in its zones is proved by DNS, and everything else by HTTP', async () => {
  const asked: string[] = [];
  const challengeFor = challengeBy(
    providerOf(async (name) => {
      asked.push(name);
      return name.endsWith('.example.org');
    }),
  );
  expect(await challengeFor('shop.example.org')).toBe('dns-01');
  expect(await challengeFor('shop.example.net')).toBe('http-01');
  expect(await challengeFor('*.example.net')).toBe('dns-01');
  expect(asked).toEqual(['_acme-challenge.shop.example.org', '_acme-challenge.shop.example.net']);
});

test('a provider that does not answer keeps nobody from HTTP', async () => {
  const challengeFor = challengeBy(
    providerOf(() => Promise.reject(new IssueError({ kind: 'dns_provider', message: 'it is away' }))),
  );
  expect(await challengeFor('shop.example.org')).toBe('http-01');
  expect(await challengeFor('*.example.org')).toBe('dns-01');
});
