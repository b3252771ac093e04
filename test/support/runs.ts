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
  /** Records another engine, too, or one that was started anew. */
  follow(engine: RecordedEngine): Promise<void>;
  /** Notes that everything on an engine has ended, which an engine without power cannot tell. */
  noteEnd(engine: RecordedEngine, atMs: number): void;
  stop(): void;
}

export interface RecordedEngine {
  readonly docker: Docker;
}

interface EngineEvent {
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: number;
}

/** Records what runs now, and what starts from now on. */
export const recordRuns = async (
  microservice: string,
  engines: readonly RecordedEngine[],
): Promise<RunRecorder> => {
  const all: Run[] = [];
  const running = new Map<string, { readonly run: Run; readonly on: Docker }>();
  const streams: NodeJS.ReadableStream[] = [];
  const label = [`${LABEL.microservice}=${microservice}`];

  const noteStart = (on: Docker, id: string, replicaId: string, startedAtMs: number): void => {
    if (running.has(id)) return; // seen to run, and told of as well
    const run: Run = { replicaId, startedAtMs };
    all.push(run);
    running.set(id, { run, on });
  };
  const noteEvent = (on: Docker, { Action, Actor, timeNano }: EngineEvent): void => {
    if (Actor.Attributes[LABEL.role] === 'sandbox') return;
    const atMs = timeNano / 1e6;
    if (Action === 'start') noteStart(on, Actor.ID, Actor.Attributes[LABEL.replica] ?? '', atMs);
    const known = running.get(Actor.ID);
    if (Action !== 'die' || known === undefined) return;
    known.run.endedAtMs = atMs;
    running.delete(Actor.ID);
  };

  const follow = async ({ docker }: RecordedEngine): Promise<void> => {
    const stream = await docker.getEvents({ filters: { type: ['container'], label } });
    streams.push(stream);
    for (const { Id, Labels } of await docker.listContainers({ filters: JSON.stringify({ label }) })) {
      if (Labels[LABEL.role] === 'sandbox') continue;
      const { State } = await docker.getContainer(Id).inspect();
      noteStart(docker, Id, Labels[LABEL.replica] ?? '', Date.parse(State.StartedAt));
    }
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('error', () => undefined); // the engine ends
    stream.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines.filter((text) => text !== ''))
        noteEvent(docker, JSON.parse(line) as EngineEvent);
    });
  };
  for (const engine of engines) await follow(engine);

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
    follow,
    noteEnd: ({ docker }, atMs) => {
      for (const [id, { run, on }] of running) {
        if (on !== docker) continue;
        run.endedAtMs = atMs;
        running.delete(id);
      }
    },
    stop: () => {
      for (const stream of streams) (stream as unknown as { destroy(): void }).destroy();
    },
  };
};
