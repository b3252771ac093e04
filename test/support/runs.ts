// When the containers of a microservice ran, on whatever engines, as the engines themselves tell it.
import type Docker from 'dockerode';
import { LABEL } from '../../contracts/docker';

export interface Run {
  readonly replicaId: string;
  /** Milliseconds since the epoch, by the clock that all engines of the tests share. */
  readonly startedAtMs: number;
  /** Undefined: it runs. */
  endedAtMs?: number;
}

export interface RunRecorder {
  /** In the order of their starts. */
  runs(): readonly Run[];
  /** How many ran at the same time, at most. */
  mostAtOnce(): number;
  stop(): void;
}

interface EngineEvent {
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: number;
}

/** Records what starts from now on. */
export const recordRuns = async (
  microservice: string,
  engines: readonly { readonly docker: Docker }[],
): Promise<RunRecorder> => {
  const all: Run[] = [];
  const running = new Map<string, Run>();
  const streams = await Promise.all(
    engines.map(({ docker }) =>
      docker.getEvents({
        filters: { type: ['container'], label: [`${LABEL.microservice}=${microservice}`] },
      }),
    ),
  );
  for (const stream of streams) {
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('error', () => undefined); // the engine ends
    stream.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines.filter((text) => text !== '')) {
        const { Action, Actor, timeNano } = JSON.parse(line) as EngineEvent;
        if (Actor.Attributes[LABEL.role] === 'sandbox') continue;
        if (Action === 'start') {
          const run: Run = {
            replicaId: Actor.Attributes[LABEL.replica] ?? '',
            startedAtMs: timeNano / 1e6,
          };
          all.push(run);
          running.set(Actor.ID, run);
        }
        const run = running.get(Actor.ID);
        if (Action === 'die' && run !== undefined) run.endedAtMs = timeNano / 1e6;
      }
    });
  }
  return {
    runs: () => [...all].sort((left, right) => left.startedAtMs - right.startedAtMs),
    mostAtOnce: () =>
      Math.max(
        0,
        ...all.map(
          ({ startedAtMs: at }) =>
            all.filter((run) => run.startedAtMs <= at && (run.endedAtMs ?? Infinity) > at).length,
        ),
      ),
    stop: () => {
      for (const stream of streams) (stream as unknown as { destroy(): void }).destroy();
    },
  };
};
