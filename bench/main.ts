// `npm run bench`: measures ContainerOS beside the Docker API called directly and Docker Swarm, on one engine and on
// three.
// Invariant: each section of results in docs/benchmarks.md is replaced as a whole, so that it never mixes runs.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { casesOf, HELP, isWritten, parseOptions, SECTIONS } from './options';
import { toJson, toMarkdown, writeDocument, type Results } from './report';
import { runSection } from './run';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

const writeFile = (path: string, text: string): void => {
  mkdirSync(dirname(resolve(path)), { recursive: true });
  writeFileSync(path, text);
};

const main = async (): Promise<void> => {
  const options = parseOptions(process.argv.slice(2));
  if (options === undefined) return void process.stdout.write(`${HELP}\n`);
  const { json, log } = options;
  const all: Results[] = [];
  let logged = '';
  const keepLog = (text: string): void => {
    logged += text;
    if (log !== undefined) writeFile(log, logged);
  };
  for (const section of SECTIONS) {
    if (casesOf(section, options).length === 0) continue;
    const results = await runSection(section, options, say, keepLog);
    all.push(results);
    // At once: what comes after it may fail, and takes long.
    if (json !== undefined) writeFile(json, toJson(all));
    process.stdout.write(`\n${toMarkdown(results)}\n`);
    if (isWritten(section, options)) say(`\nwritten to ${await writeDocument(results)}`);
  }
  if (json === undefined) process.stdout.write(`\n${toJson(all)}\n`);
};

// Ending is enough: the janitor of the test world removes everything when this process is gone.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
