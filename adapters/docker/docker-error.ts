/**
 * What an error of the Docker client means.
 */

import { ContainerOsError } from '../../domain/errors';

const AWAY_CODES = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE', 'EACCES', 'ETIMEDOUT']);

/** The HTTP status of a failed Docker call; undefined when there was no answer. */
export const dockerStatus = (error: unknown): number | undefined => {
  const status = (error as { readonly statusCode?: unknown } | null)?.statusCode;
  return typeof status === 'number' ? status : undefined;
};

/** Docker's own words, without the client's wrapping. */
export const dockerMessage = (error: unknown): string => {
  const json = (error as { readonly json?: { readonly message?: unknown } } | null)?.json;
  if (typeof json?.message === 'string') return json.message.trim();
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^\(HTTP code \d+\) [^-]* - /, '').trim();
};

export const isNotFound = (error: unknown): boolean => dockerStatus(error) === 404;

/** Whether the engine itself did not answer, so that the same call may succeed when it is back. */
export const isEngineAway = (error: unknown): boolean => {
  if (dockerStatus(error) !== undefined) return false;
  const { code, message, name } = error as { code?: string; message?: string; name?: string };
  return (
    AWAY_CODES.has(code ?? '') ||
    message === 'socket hang up' ||
    name === 'TimeoutError' ||
    name === 'AbortError'
  );
};

/** The container is on its way out, and its name is free in a moment. */
export const isBeingRemoved = (error: unknown): boolean =>
  /marked for removal|removal of container .* is already in progress|no such container|is dead/i.test(
    dockerMessage(error),
  );

/** Something on the machine has a file system of the container open or mounted still, mostly for a moment. */
export const isStillInUse = (error: unknown): boolean =>
  dockerStatus(error) === 500 && /device or resource busy/i.test(dockerMessage(error));

/** The chosen host port belongs to someone else. */
export const isPortConflict = (error: unknown): boolean =>
  /port is already allocated|address already in use|failed to bind (host )?port/i.test(dockerMessage(error));

/** Whether the kernel says that a program is for another processor architecture, and nothing emulates that. */
export const isForeignProgram = (message: string): boolean => /exec format error/i.test(message);

/** Docker's long wrapping ("OCI runtime create failed: … : exec: …") down to what helps a person. */
export const startFailureReason = (error: unknown): string => {
  const message = dockerMessage(error);
  const missing =
    /exec: "([^"]*)": (executable file not found in \$PATH|stat [^:]*: no such file or directory|no such file or directory|permission denied)/.exec(
      message,
    );
  if (missing !== null) {
    return missing[2] === 'permission denied'
      ? `the command "${missing[1]}" is not executable in the image`
      : `the command "${missing[1]}" does not exist in the image`;
  }
  if (isForeignProgram(message)) return 'the image is made for another processor architecture';
  if (/no command specified/i.test(message)) return 'the image has no command, and none was given';
  if (/unable to find user ([^:]*)/i.test(message)) {
    return `the user ${/unable to find user ([^:]*)/i.exec(message)?.[1] ?? ''} does not exist in the image`;
  }
  return message.replace(/^.*OCI runtime create failed: /, '').slice(0, 500);
};

/** The error for callers who may try again in a while; any other error as it is. */
export const asUnavailable = (error: unknown): unknown => {
  const words = isEngineAway(error)
    ? 'does not answer'
    : isStillInUse(error)
      ? 'cannot do it yet'
      : undefined;
  if (words === undefined) return error;
  const message = `The Docker Engine ${words}: ${dockerMessage(error)}.`;
  return new ContainerOsError('unavailable', message, [], { cause: error });
};
