/**
 * `npm run build`: compiles src/ to dist/, from scratch, for programs that import it, and bundles the command line into bundle/.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { bundle } from './bundle.ts';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');

// A file whose source was deleted must not be packed.
rmSync(dist, { recursive: true, force: true });

const compiler = join(root, 'node_modules', '.bin', 'tsc');
const { status, error } = spawnSync(compiler, ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
if (error !== undefined) throw error;
if (status !== 0) process.exit(status ?? 1);

await bundle('bundle');
