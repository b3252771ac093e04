/** Seals as far as tests can tell: what is sealed cannot be read as it stands, and only with the same key again. */

import type { KeySealer } from '../../contracts/acme';
import { ContainerOsError } from '../../domain/errors';

export const createReversingSealer = (key = 'key'): KeySealer => ({
  seal: (text, purpose) => Buffer.from(JSON.stringify({ key, purpose, text })).toString('base64'),
  open: (sealed, purpose) => {
    const found = JSON.parse(Buffer.from(sealed, 'base64').toString()) as {
      readonly key: string;
      readonly purpose: string;
      readonly text: string;
    };
    if (found.key !== key || found.purpose !== purpose) {
      throw new ContainerOsError('internal', `What is sealed for ${purpose} cannot be opened.`);
    }
    return found.text;
  },
});
