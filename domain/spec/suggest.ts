/**
 * Finds the key that somebody meant. Pure text: which keys are allowed where is the schema's knowledge (wording.ts).
 */

/** What other tools call the same thing; keys are compared without case, `_`, `-` and `.`. */
const SYNONYMS: Readonly<Record<string, string | readonly string[]>> = {
  environment: 'env',
  envvars: 'env',
  environmentvariables: 'env',
  variables: 'env',
  replicas: 'scale',
  replicacount: 'scale',
  instances: 'scale',
  count: 'scale',
  servicename: 'name',
  title: 'name',
  services: 'containers',
  service: 'containers',
  container: 'containers',
  imagename: 'image',
  dockerimage: 'image',
  imagepullpolicy: 'pull',
  pullpolicy: 'pull',
  cmd: 'command',
  entrypoint: 'command',
  run: 'command',
  arguments: 'args',
  argv: 'args',
  memory: 'memLimit',
  mem: ['memLimit', 'memory'],
  ram: ['memLimit', 'memory'],
  memlimit: 'memory',
  memorybytes: ['memLimit', 'memory'],
  memorylimit: 'memLimit',
  memlimitbytes: 'memLimit',
  memorylimitbytes: 'memLimit',
  limits: 'memLimit',
  cpu: 'cpus',
  cpulimit: 'cpus',
  ncpus: 'cpus',
  cpucount: 'cpus',
  resources: 'reserve',
  requests: 'reserve',
  reservations: 'reserve',
  memreservation: 'reserve',
  expose: 'ports',
  port: 'ports',
  publish: 'ports',
  containerport: 'ports',
  containerports: 'ports',
  httpport: 'httpPorts',
  http: 'httpPorts',
  hosts: 'httpPorts',
  hostnames: 'httpPorts',
  domains: 'httpPorts',
  ingress: 'httpPorts',
  publicport: 'publicPorts',
  published: 'publicPorts',
  publishedports: 'publicPorts',
  hostports: 'publicPorts',
  staticports: 'publicPorts',
  tcpports: 'publicPorts',
  udpports: 'publicPorts',
  streams: 'publicPorts',
  mounts: 'volumes',
  volumemounts: 'volumes',
  volume: 'volumes',
  binds: 'volumes',
  healthcheck: 'check',
  healthchecks: 'check',
  checks: 'check',
  health: 'check',
  livenessprobe: 'check',
  readinessprobe: 'check',
  startupprobe: 'check',
  probe: 'check',
  workdir: 'workingDirectory',
  workingdir: 'workingDirectory',
  cwd: 'workingDirectory',
  readonlyrootfilesystem: 'readOnly',
  readonlyrootfs: 'readOnly',
  ro: 'readOnly',
  capdrop: 'dropCapabilities',
  dropcaps: 'dropCapabilities',
  capadd: 'addCapabilities',
  addcaps: 'addCapabilities',
  pidlimit: 'pidsLimit',
  startperiod: 'startupGraceSeconds',
  initialdelayseconds: 'startupGraceSeconds',
  startupgrace: 'startupGraceSeconds',
  stopgraceperiod: 'stopGraceSeconds',
  stopgrace: 'stopGraceSeconds',
  terminationgraceperiodseconds: 'stopGraceSeconds',
  stoptimeout: 'stopGraceSeconds',
  runasuser: 'user',
  restartpolicy: 'restart',
  updateconfig: 'update',
  strategy: 'update',
  updatestrategy: 'update',
  rollingupdate: 'update',
  deploy: 'update',
  nodeselector: 'constraints',
  placement: 'constraints',
  networkmode: 'hostNetwork',
  host: 'hostNetwork',
  interval: 'intervalSeconds',
  periodseconds: 'intervalSeconds',
  period: 'intervalSeconds',
  timeout: 'timeoutSeconds',
  retries: 'failures',
  failurethreshold: 'failures',
  httpget: 'http',
  url: 'http',
  tcpsocket: 'tcp',
  exec: 'command',
  test: 'command',
  target: 'path',
  mountpath: 'path',
  containerpath: 'path',
  destination: 'path',
  source: 'name',
  endpoint: 'path',
  size: 'sizeBytes',
  condition: 'policy',
  type: 'strategy',
  surge: 'maxSurge',
  parallelism: 'maxSurge',
  unavailable: 'maxUnavailable',
  minreadyseconds: 'minHealthySeconds',
  monitor: 'minHealthySeconds',
  backoff: 'backoffSeconds',
  delay: 'backoffSeconds',
  maxbackoff: 'maxBackoffSeconds',
};

const fold = (key: string): string => key.toLowerCase().replace(/[_.\- ]/g, '');

/** The number of insertions, deletions, replacements and swaps of neighbours between two texts. */
export const editDistance = (left: string, right: string): number => {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1];
      let cost = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + (same ? 0 : 1),
      );
      const swapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      if (row > 1 && column > 1 && swapped) cost = Math.min(cost, (beforePrevious[column - 2] ?? 0) + 1);
      current.push(cost);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[right.length] ?? 0;
};

/** Longer keys are nothing that one could have mistyped, and comparing them would cost time. */
const MAX_LENGTH = 40;

/**
 * @param key the key that was written
 * @param allowed the keys that may stand there
 * @returns the allowed key that was most likely meant, or undefined
 */
export const suggestKey = (key: string, allowed: readonly string[]): string | undefined => {
  if (key.length > MAX_LENGTH) return undefined;
  const folded = fold(key);
  const exact = allowed.find((candidate) => fold(candidate) === folded);
  if (exact !== undefined) return exact;
  const synonyms = (Object.hasOwn(SYNONYMS, folded) ? SYNONYMS[folded] : undefined) ?? [];
  const synonym = allowed.find((candidate) => [synonyms].flat().includes(candidate));
  if (synonym !== undefined) return synonym;
  const limit = Math.max(1, Math.floor(folded.length / 3));
  const nearest = allowed
    .map((candidate) => ({ candidate, distance: editDistance(folded, fold(candidate)) }))
    .sort((left, right) => left.distance - right.distance)[0];
  return nearest !== undefined && nearest.distance <= limit ? nearest.candidate : undefined;
};
