/**
 * Has dependencies load later what they require at their start and the processes of this product hardly ever use: it is
 * loaded when somebody first uses it, which most processes never do (docs/decisions/processes.md).
 *
 * Invariant: what is asked of such a module is answered by the module itself, so a version of a dependency that uses one
 * at once costs what it would have cost, and works. None of them is a class itself.
 */

import Module from 'node:module';

type Require = (this: NodeModule, id: string) => unknown;

interface Late {
  /** The files that require it. */
  readonly by: RegExp;
  /** As it is written there. Nobody takes its default export. */
  readonly ids: RegExp;
  /** What is known of it without loading all of it. @param load as in the file that requires it */
  readonly part?: (load: (id: string) => object) => object;
}

const LATE: readonly Late[] = [
  // Nodes run activities alone, and nobody bundles or debugs workflows, which the build does.
  {
    by: /@temporalio\/worker\/lib\/[\w-]+\.js$/,
    ids: /^(?:\.\/(?:debug-replayer|nexus|nexus\/conversions|workflow\/.*)|@temporalio\/(?:common\/lib\/proto-utils|workflow.*)|nexus-rpc)$/,
  },
  // Of the client, a native connection takes names of services. The symbol is an option that nobody sets but the SDK's
  // own environment for tests, which does not run here.
  {
    by: /@temporalio\/worker\/lib\/(?:connection|worker)\.js$/,
    ids: /^@temporalio\/client(?:\/lib\/connection)?$/,
    part: (load) => ({
      ...load('@temporalio/client/lib/types'),
      InternalConnectionOptionsSymbol: Symbol('set by nobody'),
    }),
  },
  { by: /@temporalio\/core-bridge\/lib\/errors\.js$/, ids: /^@grpc\/grpc-js$/ },
  { by: /@temporalio\/common\/lib\/converter\/failure-converter\.js$/, ids: /^nexus-rpc$/ },
  // A few operators of 200.
  { by: /rxjs\/dist\/cjs\/(?:operators\/)?index\.js$/, ids: /\/internal\// },
  // An engine is asked through its socket, not through SSH, and builds nothing.
  { by: /docker-modem\/lib\/modem\.js$/, ids: /^\.\/ssh$/ },
  { by: /dockerode\/lib\/docker\.js$/, ids: /^\.\/session$/ },
  { by: /dockerode\/lib\/util\.js$/, ids: /^tar-fs$/ },
];

const lateModule = (load: () => object, part: () => object): object => {
  let whole: object | undefined;
  let known: object | undefined;
  const real = (): object => (whole ??= load());
  const holder = (key: string | symbol): object => {
    known ??= part();
    return Object.hasOwn(known, key) ? known : real();
  };
  return new Proxy(() => undefined, {
    // Compiled TypeScript asks this at once, to know whether it may use the module as it is.
    get: (_, key): unknown => key === '__esModule' || Reflect.get(holder(key), key),
    set: (_, key, value) => Reflect.set(real(), key, value),
    has: (_, key) => Reflect.has(holder(key), key),
    getPrototypeOf: () => Reflect.getPrototypeOf(real()),
    ownKeys: () => Reflect.ownKeys(real()),
    getOwnPropertyDescriptor: (_, key) => {
      const found = Reflect.getOwnPropertyDescriptor(real(), key);
      return found && { ...found, configurable: true };
    },
    apply: (_, self, args): unknown => (real() as (...given: unknown[]) => unknown).apply(self, args),
  });
};

/** Holds for all that is loaded from now on. */
export const loadLate = (): void => {
  const prototype = Module.prototype as unknown as { require: Require };
  const { require: loadNow } = prototype;
  prototype.require = function (this: NodeModule, id) {
    const late = LATE.find(({ by, ids }) => ids.test(id) && by.test(this.filename));
    if (late === undefined) return loadNow.call(this, id);
    const load = (what: string) => loadNow.call(this, what) as object;
    return lateModule(
      () => load(id),
      () => late.part?.(load) ?? {},
    );
  };
};
