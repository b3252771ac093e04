/** What the API asks of the cluster's membership; adapters/consul provides it. */

/** A name whose node is removed, for as long as no other machine has taken it: that writes another identity. */
export interface RemovedName {
  readonly nodeId: string;
  /** Consul's index of the identity that the node had, revoked; undefined when it had none. */
  readonly identityIndex: number | undefined;
}

export interface Membership {
  /**
   * Takes a node out: its access to Consul, its membership, and what is registered under it. It may be repeated; nothing
   * happens when there is no such node. One whose agent still runs is a member again after a while, without any rights.
   * What a machine has that takes the name meanwhile is left alone.
   *
   * @returns whether the name was free to the end; what was left then is that of whoever took it
   * @throws {ContainerOsError} `unavailable` when Consul does not answer or refuses; what is left is done by repeating
   */
  removeNode(name: RemovedName): Promise<boolean>;
}
