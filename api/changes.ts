/** How the API asks for changes; api/temporal-changes.ts brings them to the entities. */

import type {
  ApplyRequest,
  ChangeAccepted,
  RemoveRequest,
  RestartRequest,
  RollbackRequest,
  ScaleRequest,
} from '../contracts/workflows';
import type { MicroserviceKey } from '../domain/model';

/**
 * When one of these has resolved, the change survives the death of any process. All of them throw ContainerOsError:
 * what the entity refused it with, or `unavailable` when nothing was heard of it in time.
 */
export interface Changes {
  apply(key: MicroserviceKey, change: ApplyRequest): Promise<ChangeAccepted>;
  scale(key: MicroserviceKey, change: ScaleRequest): Promise<ChangeAccepted>;
  rollback(key: MicroserviceKey, change: RollbackRequest): Promise<ChangeAccepted>;
  restart(key: MicroserviceKey, change: RestartRequest): Promise<ChangeAccepted>;
  remove(key: MicroserviceKey, change: RemoveRequest): Promise<ChangeAccepted>;
}
