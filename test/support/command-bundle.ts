/**
 * Before integration tests: bundles the command line, as users get it, from the sources as they are. For this run alone; it goes with it.
 */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { bundle } from '../../scripts/bundle.ts';

let command = '';

export async function setup(): Promise<void> {
  command = await bundle(`bundle-${process.pid}`);
  process.env['FLOTILLA_TEST_COMMAND'] = command;
}

export function teardown(): void {
  if (command !== '') rmSync(dirname(dirname(command)), { recursive: true, force: true });
}
