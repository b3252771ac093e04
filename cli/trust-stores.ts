/**
 * Where machines keep the authorities that they trust, and what puts one there and takes it out. Pure: what there is on
 * the machine is asked for, and what is to be done comes out as steps.
 *
 * Invariant: what one plan puts in, the other takes out, and nothing else.
 */

export type TrustStep =
  | { readonly kind: 'write'; readonly file: string }
  | { readonly kind: 'remove'; readonly file: string }
  /** `ROOT` among the arguments stands for a file that has the root. */
  | {
      readonly kind: 'run';
      readonly command: string;
      readonly args: readonly string[];
      /** It fails when there is nothing to take out. */
      readonly mayFail?: true;
    };

export interface TrustStore {
  /** For people. */
  readonly name: string;
  readonly steps: readonly TrustStep[];
}

export interface TrustedRoot {
  /** In lists of authorities, and in names of files. */
  readonly name: string;
  /** SHA-1 of its certificate, in hex, which Windows and macOS know certificates by. */
  readonly sha1: string;
}

/** What is looked at on the machine. */
export interface MachineView {
  readonly platform: string;
  readonly home: string;
  exists(path: string): boolean;
  /** Names in a folder; empty when there is none. */
  list(folder: string): readonly string[];
  has(program: string): boolean;
}

export const ROOT_FILE = 'ROOT';

interface LinuxStore {
  readonly name: string;
  readonly folder: string;
  readonly extension: string;
  readonly refresh: readonly [command: string, ...args: string[]];
  /** Where taking one out needs another command. */
  readonly refreshWithout?: readonly [command: string, ...args: string[]];
}

/** The first one whose folder is there. */
const LINUX_STORES: readonly LinuxStore[] = [
  {
    name: 'the system (Fedora, RHEL and the like)',
    folder: '/etc/pki/ca-trust/source/anchors',
    extension: 'pem',
    refresh: ['update-ca-trust', 'extract'],
  },
  {
    name: 'the system (Arch)',
    folder: '/etc/ca-certificates/trust-source/anchors',
    extension: 'crt',
    refresh: ['trust', 'extract-compat'],
  },
  {
    name: 'the system (SUSE)',
    folder: '/etc/pki/trust/anchors',
    extension: 'pem',
    refresh: ['update-ca-certificates'],
  },
  {
    name: 'the system (Debian, Ubuntu, Alpine)',
    folder: '/usr/local/share/ca-certificates',
    extension: 'crt',
    refresh: ['update-ca-certificates'],
    refreshWithout: ['update-ca-certificates', '--fresh'],
  },
];

const runs = ([command, ...args]: readonly [string, ...string[]]): TrustStep => ({
  kind: 'run',
  command,
  args,
});

const MAC_KEYCHAIN = '/Library/Keychains/System.keychain';

const systemStore = (machine: MachineView, root: TrustedRoot, isRemoved: boolean): TrustStore | undefined => {
  switch (machine.platform) {
    case 'darwin':
      return {
        name: 'the system keychain of macOS',
        steps: [
          isRemoved
            ? runs(['security', 'delete-certificate', '-Z', root.sha1, '-t', MAC_KEYCHAIN])
            : runs(['security', 'add-trusted-cert', '-d', '-r', 'trustRoot', '-k', MAC_KEYCHAIN, ROOT_FILE]),
        ],
      };
    case 'win32':
      return {
        name: 'the root store of Windows',
        steps: [
          isRemoved
            ? runs(['certutil', '-delstore', 'ROOT', root.sha1])
            : runs(['certutil', '-addstore', '-f', 'ROOT', ROOT_FILE]),
        ],
      };
    default: {
      const store = LINUX_STORES.find(({ folder }) => machine.exists(folder));
      if (store === undefined) return undefined;
      const file = `${store.folder}/${root.name}.${store.extension}`;
      return {
        name: store.name,
        steps: isRemoved
          ? [{ kind: 'remove', file }, runs(store.refreshWithout ?? store.refresh)]
          : [{ kind: 'write', file }, runs(store.refresh)],
      };
    }
  }
};

/** Of Chrome on Linux, and of Firefox: each has a database of its own. */
const nssFolders = (machine: MachineView): readonly string[] => {
  const { home } = machine;
  const profiles = [
    `${home}/.mozilla/firefox`,
    `${home}/snap/firefox/common/.mozilla/firefox`,
    `${home}/Library/Application Support/Firefox/Profiles`,
  ];
  return [
    `${home}/.pki/nssdb`,
    ...profiles.flatMap((folder) => machine.list(folder).map((name) => `${folder}/${name}`)),
  ].filter((folder) => machine.exists(`${folder}/cert9.db`));
};

export interface TrustPlan {
  readonly stores: readonly TrustStore[];
  /** What is not done, and what to do about it, for people. */
  readonly notes: readonly string[];
}

/** @param isRemoved whether it is to be taken out */
export const planTrust = (machine: MachineView, root: TrustedRoot, isRemoved: boolean): TrustPlan => {
  const notes: string[] = [];
  const system = systemStore(machine, root, isRemoved);
  if (system === undefined) {
    notes.push(
      'No store of this system is known here. Install the package ca-certificates, or give the output of containeros trust --print to what is to trust it.',
    );
  }
  const folders = machine.platform === 'win32' ? [] : nssFolders(machine);
  if (folders.length > 0 && !machine.has('certutil')) {
    notes.push(
      'Firefox, and Chrome on Linux, have stores of their own. For those, install certutil (libnss3-tools, nss-tools or nss) and run this again.',
    );
    return { stores: system === undefined ? [] : [system], notes };
  }
  const nss = folders.map((folder): TrustStore => ({
    name: `the browser’s store in ${folder}`,
    steps: [
      isRemoved
        ? {
            kind: 'run',
            command: 'certutil',
            args: ['-D', '-d', `sql:${folder}`, '-n', root.name],
            mayFail: true,
          }
        : runs(['certutil', '-A', '-d', `sql:${folder}`, '-t', 'C,,', '-n', root.name, '-i', ROOT_FILE]),
    ],
  }));
  return { stores: [...(system === undefined ? [] : [system]), ...nss], notes };
};
