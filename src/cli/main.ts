#!/usr/bin/env node
/**
 * The door: looks at the Node.js that runs, and only then lets the program in.
 *
 * A static import would be resolved before the first line runs, and everything behind it is too modern for an old
 * Node.js, which would then show a syntax error instead of a sentence. So this file imports nothing statically, and its
 * own syntax stays plain.
 */

/** What package.json says under `engines`; a test compares the two. */
const NEEDED_MAJOR = 22;
const NEEDED_MINOR = 12;

const current = process.versions.node;
const parts = current.split('.').map(Number);
const major = Number(parts[0]);
const minor = Number(parts[1]);

if (major < NEEDED_MAJOR || (major === NEEDED_MAJOR && minor < NEEDED_MINOR)) {
  const needed = NEEDED_MAJOR + '.' + NEEDED_MINOR;
  const message =
    'Flotilla needs Node.js ' +
    needed +
    ' or newer and this is ' +
    current +
    ': install a newer one (https://nodejs.org) and try again.';
  process.stderr.write('flotilla: ' + message + '\n');
  if (process.argv.indexOf('--json') !== -1) {
    process.stdout.write(JSON.stringify({ event: 'error', code: 'OLD_NODE', message: message }) + '\n');
  }
  process.exitCode = 1;
} else {
  import('./program.ts')
    .then((program) => program.main())
    .catch((error: unknown) => {
      const text = error instanceof Error ? error.message : String(error);
      process.stderr.write('flotilla: the program could not be loaded: ' + text.replace(/\s+/g, ' ') + '\n');
      process.exitCode = 1;
    });
}
