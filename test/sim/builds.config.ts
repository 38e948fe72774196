/** Runs tests against a build that is broken on purpose: `FLOTILLA_BROKEN_BUILD` names it. */
import { join, relative } from 'node:path';

import { defineConfig } from 'vitest/config';

import { ClosingLine } from '../closing-line.ts';
import { BROKEN_BUILDS, broken } from './builds.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** ms for a test: that of the slowest kind. */
const TIMEOUT = 120_000;

const name = process.env['FLOTILLA_BROKEN_BUILD'];
const build = BROKEN_BUILDS.find((one) => one.name === name);
if (build === undefined) throw new Error(`There is no broken build ${String(name)}.`);

export default defineConfig({
  root: ROOT,
  plugins: [
    {
      name: 'broken-build',
      enforce: 'pre',
      transform: (text, id) => broken(build, relative(ROOT, id.split('?')[0] ?? id), text),
    },
  ],
  test: {
    reporters: [new ClosingLine()],
    // What is kept of other builds is none of this one.
    fsModuleCache: false,
    pool: 'forks',
    maxWorkers: 1,
    bail: 1,
    include: [build.trace[0]],
    testTimeout: TIMEOUT,
    hookTimeout: TIMEOUT,
  },
});
