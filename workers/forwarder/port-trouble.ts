/** Opens a public port, again and again until it can be had, and says in words why it cannot. */

/** How soon a port that somebody else has had is taken when it is free. */
const RETRY_MS = 1_000;

/** Of a node, for people; it goes after "port 5432/tcp". */
export const whyNotOpen = ({ code, message }: NodeJS.ErrnoException): string => {
  if (code === 'EADDRINUSE') {
    return 'is taken by another program on this machine; it is tried again every second';
  }
  if (code === 'EACCES') {
    return 'may not be opened, as ContainerOS runs without the right to ports below 1024 here';
  }
  return `cannot be opened: ${message}`;
};

export interface Opening {
  close(): void;
}

/**
 * @param open tries once; rejects when the port cannot be had
 * @param onTrouble told whenever that changes; undefined: it is open
 */
export const keepOpening = (
  open: () => Promise<void>,
  onTrouble: (reason: string | undefined) => void,
  retryMs = RETRY_MS,
): Opening => {
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;
  const attempt = (): void => {
    open().then(
      () => onTrouble(undefined),
      (error: unknown) => {
        if (isClosed) return;
        onTrouble(whyNotOpen(error as NodeJS.ErrnoException));
        timer = setTimeout(attempt, retryMs);
      },
    );
  };
  attempt();
  return {
    close: () => {
      isClosed = true;
      clearTimeout(timer);
    },
  };
};
