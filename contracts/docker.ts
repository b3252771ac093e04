/** Labels on containers: a node's only memory. And the metadata of Consul service instances. */

export const LABEL = {
  /** Id of the ContainerOS installation, so that several can share one Docker Engine. */
  cluster: 'containeros.cluster',
  project: 'containeros.project',
  microservice: 'containeros.microservice',
  release: 'containeros.release',
  replica: 'containeros.replica',
  container: 'containeros.container',
  operation: 'containeros.operation',
  /** `container`, or `sandbox` for the one that only holds the shared network namespace. */
  role: 'containeros.role',
  /** JSON of the `StartReplica` that made it: what a restarted node worker needs to keep it. */
  replicaSpec: 'containeros.replica-spec',
} as const;

/** Keys of `Meta` on every Consul service instance that is a replica's port. */
export const SERVICE_META = {
  cluster: 'cluster',
  project: 'project',
  microservice: 'microservice',
  release: 'release',
  replica: 'replica',
  container: 'container',
  port: 'port',
  protocol: 'protocol',
  node: 'node',
} as const;

/** Tag on every service instance of ContainerOS. */
export const SERVICE_TAG = 'containeros';
