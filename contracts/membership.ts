/** What the API asks of the cluster's membership; adapters/consul provides it. */

export interface Membership {
  /**
   * Takes a node out: its access to Consul, its membership, and what is registered under it. It may be repeated; nothing
   * happens when there is no such node. One whose agent still runs is a member again after a while, without any rights.
   *
   * @throws {ContainerOsError} `unavailable` when Consul does not answer or refuses; what is left is done by repeating
   */
  removeNode(nodeId: string): Promise<void>;
}
