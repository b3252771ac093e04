/** Commands about webhooks: what lets a build deploy a microservice. */

import type { MadeWebhookView, WebhookView } from '../openapi/webhook-schemas';

import { segment } from './api-client';
import type { Command } from './command';
import { fromNowInWords, table } from './words';

const pathOf = (name: string): string => `/v1/microservices/${segment(name)}/webhooks`;

const madeInWords = ({ name, microservice, secret, url, secretlessUrl }: MadeWebhookView): string =>
  [
    `A build deploys ${microservice} with a POST of {"tag": "…"} to`,
    '',
    `  ${url}`,
    '',
    'or, so that no URL has the secret, to',
    '',
    `  ${secretlessUrl}`,
    `  Authorization: Bearer ${secret}`,
    '',
    `Whoever has the secret can deploy it, and it is not shown again. containeros webhooks revoke ${microservice} ${name} takes it back.`,
  ].join('\n');

const create: Command = {
  name: 'webhooks create',
  arguments: ['NAME', 'WEBHOOK'],
  flags: [{ name: 'any-repository', help: 'It may bring images of other repositories too.' }],
  summary: 'Make a webhook with which a build deploys a microservice.',
  run: async ({ api, argument, isSet }) => {
    const body = {
      name: argument('WEBHOOK'),
      ...(isSet('any-repository') ? { anyRepository: true } : {}),
    };
    const answer = await api.call<MadeWebhookView>('POST', pathOf(argument('NAME')), { body });
    return { answer, words: () => madeInWords(answer.value) };
  },
};

const list: Command = {
  name: 'webhooks list',
  arguments: ['NAME'],
  flags: [],
  summary: 'Show the webhooks of a microservice, and how each was last used.',
  run: async ({ api, argument, nowMs }) => {
    const name = argument('NAME');
    const answer = await api.list<WebhookView>(pathOf(name));
    const { items } = answer.value;
    return {
      answer,
      words: () =>
        items.length === 0
          ? `${name} has no webhooks. containeros webhooks create ${name} ci makes one.`
          : table(
              [{ title: 'WEBHOOK' }, { title: 'LAST USED' }, { title: 'RESULT' }, { title: 'IMAGE' }],
              items.map((webhook) => [
                webhook.name,
                webhook.lastUse === undefined
                  ? 'never'
                  : fromNowInWords(Date.parse(webhook.lastUse.at), nowMs()),
                webhook.lastUse?.result ?? '-',
                webhook.lastUse?.image ?? '-',
              ]),
            ),
    };
  },
};

const rotate: Command = {
  name: 'webhooks rotate',
  arguments: ['NAME', 'WEBHOOK'],
  flags: [],
  summary: 'Give a webhook a new secret; the old one is worth nothing at once.',
  run: async ({ api, argument }) => {
    const path = `${pathOf(argument('NAME'))}/${segment(argument('WEBHOOK'))}/rotate`;
    const answer = await api.call<MadeWebhookView>('POST', path);
    return { answer, words: () => madeInWords(answer.value) };
  },
};

const revoke: Command = {
  name: 'webhooks revoke',
  arguments: ['NAME', 'WEBHOOK'],
  flags: [],
  summary: 'Take a webhook away.',
  run: async ({ api, argument }) => {
    const [name, webhook] = [argument('NAME'), argument('WEBHOOK')];
    const answer = await api.call('DELETE', `${pathOf(name)}/${segment(webhook)}`);
    return { answer, words: () => `The webhook ${webhook} of ${name} is revoked.` };
  },
};

export const WEBHOOK_COMMANDS: readonly Command[] = [create, list, rotate, revoke];
