/** Commands about a release that is under way, and the one that begins the same release anew. */

import type { OperationView } from '../openapi/schemas';

import { segment } from './api-client';
import type { Command } from './command';

interface Steering {
  readonly name: string;
  readonly summary: string;
  readonly details: readonly string[];
  readonly words: (operation: OperationView) => string;
  /** It takes a reason. */
  readonly takesReason: boolean;
}

const STEERING: readonly Steering[] = [
  {
    name: 'promote',
    summary: 'Give a new release all requests now.',
    details: ['For a canary or blue-green release that is under way: it goes through no more steps.'],
    words: ({ microservice, release, id }) => `v${release} of ${microservice} gets all requests (${id}).`,
    takesReason: false,
  },
  {
    name: 'abort',
    summary: 'Roll a release back that is under way.',
    details: ['The old release gets all requests first; the operation ends as rolled back, with the reason.'],
    words: ({ microservice, release, id }) => `v${release} of ${microservice} is rolled back (${id}).`,
    takesReason: true,
  },
  {
    name: 'pause',
    summary: 'Keep a release as far as it is.',
    details: ['What runs stays, and is healed, until the release is resumed, promoted or aborted.'],
    words: ({ microservice, release, id }) =>
      `v${release} of ${microservice} is paused (${id}). containeros resume ${microservice} goes on.`,
    takesReason: true,
  },
  {
    name: 'resume',
    summary: 'Go on with a release that was paused.',
    details: [],
    words: ({ microservice, release, id }) => `v${release} of ${microservice} goes on (${id}).`,
    takesReason: false,
  },
  {
    name: 'redeploy',
    summary: 'Deploy the same specification as a new release.',
    details: [
      'Images are looked up again, so that what a tag leads to now is what runs. It takes over as the',
      'specification says; a restart replaces replicas of the same release instead.',
    ],
    words: ({ microservice, release, id }) => `${microservice} is deployed anew as v${release} (${id}).`,
    takesReason: false,
  },
];

const commandOf = ({ name, summary, details, words, takesReason }: Steering): Command => ({
  name,
  arguments: ['NAME'],
  flags: takesReason ? [{ name: 'reason', value: 'TEXT', help: 'Why, for whoever looks at it later.' }] : [],
  summary,
  details,
  run: async ({ api, argument, flag }) => {
    const path = `/v1/microservices/${segment(argument('NAME'))}/${name}`;
    const reason = takesReason ? flag('reason') : undefined;
    const answer = await api.call<OperationView>('POST', path, {
      body: reason === undefined ? {} : { reason },
    });
    return { answer, words: () => words(answer.value) };
  },
});

export const STEERING_COMMANDS: readonly Command[] = STEERING.map(commandOf);
