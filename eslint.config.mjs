// Lint rules, and the import table of the architecture: each folder may import only what stands beside it here.
import eslint from '@eslint/js';
import tseslint from 'typescript-eslint';

const FOLDERS = [
  'domain',
  'contracts',
  'workflows',
  'activities',
  'adapters',
  'workers',
  'api',
  'openapi',
  'cli',
];

/** What each folder may import at run time: other folders of ours, and packages; `types`: of those folders only types. */
const IMPORT_TABLE = {
  domain: { folders: ['domain'], packages: [] },
  'domain/spec': { folders: ['domain'], packages: ['zod', 'tldts'] },
  contracts: { folders: ['domain', 'contracts'], packages: [] },
  workflows: {
    folders: ['domain', 'contracts', 'workflows'],
    packages: ['@temporalio/workflow', '@temporalio/common'],
  },
  activities: { folders: ['domain', 'contracts', 'activities'], packages: ['@temporalio/activity'] },
  adapters: { folders: ['domain', 'contracts', 'adapters'] },
  api: { folders: ['domain', 'contracts', 'api', 'openapi'] },
  cli: { folders: ['cli'], types: ['openapi'], packages: ['node:*', 'ws'] },
};

const escape = (text) => text.replace(/[.+?^${}()|[\]\\/]/g, '\\$&').replaceAll('*', '.*');

const boundary = (folder) => {
  const { folders, types = [], packages } = IMPORT_TABLE[folder];
  const banned = FOLDERS.filter((other) => ![...folders, ...types].includes(other));
  const patterns = [
    {
      regex: `^(\\.\\./)+(${banned.join('|')})(/|$)`,
      message: `${folder}/ may import only ${folders.join(', ')} (docs/architecture.md).`,
    },
  ];
  if (types.length > 0) {
    patterns.push({
      regex: `^(\\.\\./)+(${types.join('|')})(/|$)`,
      allowTypeImports: true,
      message: `${folder}/ may import only types of ${types.join(', ')} (docs/architecture.md).`,
    });
  }
  if (packages !== undefined) {
    const allowed = packages.length === 0 ? '' : `(?!(${packages.map(escape).join('|')})$)`;
    patterns.push({
      regex: `^(?!\\.)${allowed}.+`,
      allowTypeImports: folder === 'activities',
      message: `${folder}/ may import no package but ${packages.join(', ') || 'none'} (docs/architecture.md).`,
    });
  }
  return {
    name: `boundary-${folder}`,
    files: [`${folder}/**/*.ts`],
    rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns }] },
  };
};

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'coverage/'] },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Use named exports.' },
        { selector: 'TSEnumDeclaration', message: 'Use a union of literals.' },
      ],
    },
  },
  {
    files: ['**/*.js', '**/*.mjs'],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        require: 'readonly',
        module: 'writable',
        Buffer: 'readonly',
        URL: 'readonly',
        fetch: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        AbortController: 'readonly',
        AbortSignal: 'readonly',
        performance: 'readonly',
      },
    },
  },
  ...Object.keys(IMPORT_TABLE).map(boundary),
  {
    name: 'pure-domain',
    files: ['domain/**/*.ts'],
    rules: {
      'no-restricted-globals': ['error', 'process', 'setTimeout', 'setInterval', 'fetch', 'Buffer'],
      'no-restricted-properties': [
        'error',
        { object: 'Date', property: 'now', message: 'Time is an argument in domain/.' },
        { object: 'Math', property: 'random', message: 'Chance is a seed in domain/.' },
      ],
      'no-restricted-syntax': [
        'error',
        {
          selector: 'NewExpression[callee.name="Date"][arguments.length=0]',
          message: 'Time is an argument in domain/.',
        },
        { selector: 'ExportDefaultDeclaration', message: 'Use named exports.' },
        { selector: 'TSEnumDeclaration', message: 'Use a union of literals.' },
      ],
    },
  },
);
