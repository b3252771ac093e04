/**
 * Every time limit and retry of workflows, with its reason. Milliseconds.
 */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

export const TIMEOUT = {
  /** A worker that died is noticed after this; activities heartbeat at a fifth of it. */
  nodeHeartbeatMs: 5 * SECOND,
  /** A node that takes longer than this to begin is away or overloaded: plan again with what Consul says of it then. */
  nodeScheduleToStartMs: 30 * SECOND,
  /** When a node is lost, what an operation waits for on other nodes may end within this; then it plans again. */
  lossPatienceMs: 5 * SECOND,
  /**
   * What has to be near another microservice, and was lost with it, waits so long for the other one to start elsewhere:
   * about as long as that takes where images are there.
   */
  neighbourPatienceMs: 15 * SECOND,
  /** Pulls of large images over slow links; also how long a registry may be away before an operation gives up. */
  pullScheduleToCloseMs: 15 * MINUTE,
  /** A node asks a registry for digests: it gives up sooner itself, so that another node may be asked. */
  resolveStartToCloseMs: 30 * SECOND,
  /** One attempt of one pull. */
  pullStartToCloseMs: 10 * MINUTE,
  /** Added to the longest start-up grace of a release: creating and starting a large batch on a slow machine. */
  startMarginMs: 5 * MINUTE,
  /**
   * How long a node's engine may be away, beyond one attempt, before an operation gives up on it. Mostly it is told long
   * before that the engine is lost.
   */
  nodeOutageMs: 15 * MINUTE,
  /** Longest stop grace that a specification may ask for (domain/spec/schema). */
  maxStopGraceMs: 60 * MINUTE,
  /** Added to the longest stop grace. */
  stopMarginMs: 2 * MINUTE,
  /** A local activity reads or writes Consul: long enough for an election of a leader. */
  localStartToCloseMs: 10 * SECOND,
  /** Beyond it the operation fails with `unavailable`; entities themselves retry for ever. */
  localScheduleToCloseMs: 5 * MINUTE,
  /** How long the API waits for an update before it answers 503; the update itself goes on. */
  updateMs: 20 * SECOND,
  /** The level-triggered reconcile of every entity: heals whatever a lost signal left. */
  reconcileEveryMs: 5 * MINUTE,
  /** How often the cluster watcher deletes what is old, and looks for replicas of removed microservices. */
  housekeepingEveryMs: 10 * MINUTE,
  /** Wait between a failed reschedule and the next, doubled each time up to the limit. */
  rescheduleBackoffMs: 2 * SECOND,
  rescheduleMaxBackoffMs: MINUTE,
  /** Sandboxed control-plane watcher: noticed dead after this. */
  watcherHeartbeatMs: 10 * SECOND,
} as const;

/** Images that are pulled before they are needed (activities/images-ahead.ts): all of it can wait. */
export const AHEAD = {
  /** Changes mostly come several at a time: looked at so much later. */
  settleMs: 10 * SECOND,
  /** A look reads every microservice: not sooner than this after the one before. */
  noSoonerMs: 30 * SECOND,
  /** Looks also when nothing has changed. */
  everyMs: 5 * MINUTE,
  /** After a node was asked for an image that it still does not have, doubled each time up to the limit. */
  backoffMs: MINUTE,
  maxBackoffMs: 60 * MINUTE,
  /** How many images a node is asked for at a time. */
  maxImages: 10,
  /** All of them together; what is not there by then is asked for again. */
  pullsStartToCloseMs: 30 * MINUTE,
} as const;

export const RETRY = {
  /** How often it is looked whether a neighbour has come. */
  neighbour: { initialIntervalMs: 200, maximumIntervalMs: SECOND },
  /** First retry after `initialIntervalMs`, then doubled up to `maximumIntervalMs`. */
  node: { initialIntervalMs: 200, maximumIntervalMs: 5 * SECOND },
  /** How often a node whose engine does not answer is asked for digests before another one is. */
  resolvesBeforeElsewhere: 2,
  /** How often a node tries to get an image for a replica that has to be brought back, before another node may. */
  pullsBeforeElsewhere: 3,
  local: { initialIntervalMs: 100, maximumIntervalMs: 2 * SECOND },
} as const;

/** Certificates of public hostnames (workflows/certificate.ts). */
export const CERTIFICATE = {
  /** A look asks Consul, and the authority when to renew. */
  lookStartToCloseMs: 2 * MINUTE,
  /** An authority may take half a minute for an answer, and an order takes a few. */
  stepStartToCloseMs: 5 * MINUTE,
  /** Records in DNS take their time to spread, and authorities to look at them. */
  proofStartToCloseMs: 20 * MINUTE,
  /** A worker that died is noticed after this. */
  heartbeatMs: 20 * SECOND,
  /** Where nobody is asked, it is looked now and then whether that still holds. */
  lookEveryMs: 24 * 60 * MINUTE,
  /** Consul, or the worker's own defect: how long between attempts. */
  retryFirstIntervalMs: SECOND,
  retryMaxIntervalMs: MINUTE,
  /** Steps that throw what is none of the expected: then the whole of it is tried again later. */
  stepAttempts: 3,
} as const;
