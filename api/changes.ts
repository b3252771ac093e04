/** How the API asks for changes; api/temporal-changes.ts brings them to the entities. */

import type {
  ApplyRequest,
  ChangeAccepted,
  RemoveRequest,
  Preview,
  PreviewRequest,
  RedeployRequest,
  RestartRequest,
  RollbackRequest,
  ScaleRequest,
  SteerRequest,
} from '../contracts/workflows';
import type { MicroserviceKey } from '../domain/model';

/**
 * When one of these has resolved, the change survives the death of any process. All of them throw ContainerOsError:
 * what the entity refused it with, or `unavailable` when nothing was heard of it in time.
 *
 * `signal`: whoever asked has gone. What was not taken in by then is not asked for any more, so that it does not come
 * after what was asked for later.
 */
export interface Changes {
  apply(key: MicroserviceKey, change: ApplyRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
  scale(key: MicroserviceKey, change: ScaleRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
  rollback(key: MicroserviceKey, change: RollbackRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
  restart(key: MicroserviceKey, change: RestartRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
  redeploy(key: MicroserviceKey, change: RedeployRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
  /** What a change would make of the microservice; changes nothing. */
  preview(key: MicroserviceKey, request: PreviewRequest, signal?: AbortSignal): Promise<Preview>;
  /** Promotes, aborts, pauses or resumes the release that is under way. */
  steer(key: MicroserviceKey, change: SteerRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
  remove(key: MicroserviceKey, change: RemoveRequest, signal?: AbortSignal): Promise<ChangeAccepted>;
}
