/**
 * When the ingress of this node is due for a new configuration that leads requests nowhere else, but has itself what they
 * read: endpoints in slots' files, hostnames in spare places (adapters/ingress/caddy-config).
 *
 * Invariant: it is due only when all has stayed where it is for a while in which hardly anybody has connected, as whoever
 * connects while a configuration takes over may lose a request (docs/decisions/ingress.md).
 */

/** Longer than a release takes between its replicas, mostly. */
const AFTER_MS = 10_000;
/**
 * Each time doubles the next wait, up to this, as web sockets outlive a configuration by a day only; when it has not been due for
 * as long, the next wait is a short one again.
 */
const LONGEST_MS = 3_600_000;
/** So many new connections in that time, to whatever listens on this machine, are hardly any. */
const FEW = 2;

export interface Settling {
  /** What is led where has changed just now, and is read by requests. */
  moved(): void;
  /** It is read by requests, and has not changed just now. */
  stays(): void;
  /** Nothing is to be done. */
  rest(): void;
  /** It was done. */
  done(): void;
  isDue(): boolean;
}

export interface SettlingDeps {
  /** How many connections this machine has accepted so far; undefined: nobody knows, and nothing is ever due. */
  readonly acceptedConnections: () => number | undefined;
  /** Called when it is due. */
  readonly onDue: () => void;
  readonly afterMs?: number;
}

export const createSettling = ({
  acceptedConnections,
  onDue,
  afterMs = AFTER_MS,
}: SettlingDeps): Settling => {
  let timer: NodeJS.Timeout | undefined;
  let isDue = false;
  let waitMs = afterMs;
  let doneAtMs = -Infinity;

  const wait = (): void => {
    clearTimeout(timer);
    if (performance.now() - doneAtMs > LONGEST_MS) waitMs = afterMs;
    const before = acceptedConnections();
    timer = setTimeout(() => {
      const now = acceptedConnections();
      if (now === undefined || before === undefined || now - before > FEW) return wait();
      timer = undefined;
      isDue = true;
      onDue();
    }, waitMs);
    timer.unref();
  };

  return {
    moved: () => {
      isDue = false;
      wait();
    },
    stays: () => {
      if (timer === undefined && !isDue) wait();
    },
    rest: () => {
      clearTimeout(timer);
      timer = undefined;
      isDue = false;
    },
    done: () => {
      doneAtMs = performance.now();
      waitMs = Math.min(waitMs * 2, LONGEST_MS);
    },
    isDue: () => isDue,
  };
};
