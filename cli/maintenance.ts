/** Commands that let the users of a microservice wait, without a release. */

import type { MaintenanceView } from '../openapi/schemas';

import { segment } from './api-client';
import { CommandError, type Command, type Invocation } from './command';
import { listInWords } from './words';

/** @throws {CommandError} `invalid` */
const secondsOf = (text: string | undefined): number | undefined => {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new CommandError('invalid', `--retry-after must be a number of seconds like 300, not "${text}".`);
};

const listOf = (text: string | undefined): readonly string[] | undefined =>
  text
    ?.split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

const bodyOf = ({ flag }: Invocation): object => {
  const [text, retryAfterSeconds, allow] = [
    flag('text'),
    secondsOf(flag('retry-after')),
    listOf(flag('allow')),
  ];
  return {
    ...(text === undefined ? {} : { text }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    ...(allow === undefined ? {} : { allow }),
  };
};

/** What has to be looked at when not every node has confirmed it. */
const behindInWords = ({ behind = [] }: MaintenanceView): string =>
  behind.length === 0
    ? ''
    : `\nNot confirmed yet by the ingress of ${listInWords(behind)}: it may take longer there. Look at containeros nodes.`;

const pathOf = ({ argument }: Invocation): string =>
  `/v1/microservices/${segment(argument('NAME'))}/maintenance`;

const on: Command = {
  name: 'maintenance on',
  arguments: ['NAME'],
  flags: [
    { name: 'text', value: 'TEXT', help: 'What is answered meanwhile.' },
    { name: 'retry-after', value: 'SECONDS', help: 'When clients may ask again (60).' },
    { name: 'allow', value: 'CIDR', help: 'Who gets through all the same: addresses, with commas.' },
  ],
  summary: 'Let the hostnames of a microservice answer that they are under maintenance.',
  details: ['Its replicas run on, and there is no release. It is in force when the command ends.'],
  run: async (invocation) => {
    const answer = await invocation.api.call<MaintenanceView>('PUT', pathOf(invocation), {
      body: bodyOf(invocation),
    });
    const { microservice } = answer.value;
    return {
      answer,
      words: () =>
        `${microservice} is under maintenance: its hostnames answer 503. containeros maintenance off ${microservice} ends that.${behindInWords(answer.value)}`,
    };
  },
};

const off: Command = {
  name: 'maintenance off',
  arguments: ['NAME'],
  flags: [],
  summary: 'Let them lead to its replicas again.',
  run: async (invocation) => {
    const answer = await invocation.api.call<MaintenanceView>('DELETE', pathOf(invocation));
    return {
      answer,
      words: () =>
        `${answer.value.microservice} is open: its hostnames lead to its replicas again.${behindInWords(answer.value)}`,
    };
  },
};

export const MAINTENANCE_COMMANDS: readonly Command[] = [on, off];
