/**
 * How the tests run. Four projects: `unit` and `property` in one process each file, `conformance` with programs of others that
 * write to libraries, `integration` with nodes in processes of their own, workers and sockets (loopback only). `npm run test:lan` adds
 * a fifth: bad networks of hosts in namespaces.
 */
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { ClosingLine } from './test/closing-line.ts';

/** Files that run at the same time: the suite must fit a machine with two cores, and integration tests start nodes. */
const WORKERS = 2;
/** ms a single test may take. Generous: a slow machine must not fail a correct program. */
const TEST_TIMEOUT = 30_000;
/** ms for a test that starts several processes. */
const INTEGRATION_TIMEOUT = 120_000;
/** Hundreds of short processes start: they need not compile the same files anew each time. */
const COMPILED = join(import.meta.dirname, 'node_modules', '.cache', 'compile');

export default defineConfig({
  test: {
    // Native modules and worker threads are started in there: a process of its own ends with all that it holds.
    pool: 'forks',
    maxWorkers: WORKERS,
    bail: 0,
    reporters: ['default', new ClosingLine()],
    coverage: { provider: 'v8', include: ['src/**'] },
    projects: [
      project('unit', TEST_TIMEOUT),
      project('property', TEST_TIMEOUT),
      project('conformance', INTEGRATION_TIMEOUT),
      project('integration', INTEGRATION_TIMEOUT),
      ...(process.env['FLOTILLA_LAN'] === '1' ? [project('lan', INTEGRATION_TIMEOUT)] : []),
    ],
  },
});

function project(name: string, timeout: number) {
  return {
    test: {
      name,
      env: { NODE_COMPILE_CACHE: COMPILED },
      // These start the command line hundreds of times.
      ...(name === 'integration' || name === 'lan' ? { globalSetup: 'test/support/command-bundle.ts' } : {}),
      include: [`test/${name}/**/*.test.ts`],
      testTimeout: timeout,
      hookTimeout: timeout,
    },
  };
}
