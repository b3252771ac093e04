/** The real watch over the cluster, over a project's fake one: what it tells entities goes by Temporal. */

import { MockActivityEnvironment } from '@temporalio/testing';

import { createClusterActivities } from '../../activities/cluster-activities';
import { microserviceId } from '../../domain/model';
import { entitiesOf } from '../../workers/entities';
import { eventually } from '../support/wait';

import type { Project } from './temporal';

export interface Watch {
  stop(): Promise<void>;
}

const activitiesOf = ({ cluster, client }: Project) => {
  let suffix = 0;
  return createClusterActivities({
    store: cluster.store,
    view: cluster.view,
    entities: entitiesOf(client),
    // What becomes of them is told by leases.test.ts.
    leases: { free: () => Promise.resolve([]), forget: () => Promise.reject(new Error('not faked: forget')) },
    imagesAhead: { note: () => undefined, keep: () => Promise.resolve() },
    randomSuffix: () => `watch${String((suffix += 1)).padStart(12, '0')}`,
    warn: (message, error) => {
      throw new Error(message, { cause: error });
    },
  });
};

/** Brings a microservice's entity back from what was published, once Temporal says that it is lost. */
export const recoverEntity = async (project: Project, name: string): Promise<void> => {
  const activities = activitiesOf(project);
  await eventually(async () => {
    const { recovered } = await activities.recoverEntities();
    expect(recovered).toContain(microserviceId({ project: project.name, name }));
  });
};

export const startWatch = (project: Project): Watch => {
  const activities = activitiesOf(project);
  const environment = new MockActivityEnvironment();
  const ended = environment.run(() => activities.watchCluster());
  ended.catch(() => undefined); // `stop` tells how it ended
  return {
    stop: async () => {
      environment.cancel();
      await expect(ended).rejects.toMatchObject({ name: 'CancelledFailure' });
    },
  };
};
