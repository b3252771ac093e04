/** Registers the workflows under the names that contracts/workflows gives them. */

export { certificateWorkflow as certificate } from './certificate';
export { clusterWorkflow as cluster } from './cluster';
export { deployWorkflow as deploy } from './deploy';
export { microserviceWorkflow as microservice } from './microservice';
export { pullAheadWorkflow as pullAhead } from './pull-ahead';
export { removeWorkflow as remove } from './remove';
export { rescheduleWorkflow as reschedule } from './reschedule';
export { scaleWorkflow as scale } from './scale';
