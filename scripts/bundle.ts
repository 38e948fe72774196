/**
 * Bundles the command line and its database worker, with what they need, into a few files: a command starts in a third of the CPU time that it
 * takes to find and read the thousand modules of libp2p and the others one by one.
 */
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { rolldown } from 'rolldown';

const ROOT = join(import.meta.dirname, '..');
/** Loads a native module, which stays where npm has put it; and one that is written in a way that modules do not allow. */
const EXTERNAL = ['better-sqlite3', 'qrcode-terminal'];
/** What `engines` says. */
const TARGET = 'node22.12';

/**
 * Makes the bundle anew.
 * @param folder - name of a folder of the project: the command looks for package.json above it
 * @returns path of the command
 */
export async function bundle(folder: string): Promise<string> {
  const dir = join(ROOT, folder);
  // A part whose name has changed must not be packed.
  rmSync(dir, { recursive: true, force: true });
  const build = await rolldown({
    input: { 'cli/main': join(ROOT, 'src', 'cli', 'main.ts'), 'db/worker': join(ROOT, 'src', 'db', 'worker.ts') },
    platform: 'node',
    external: EXTERNAL,
    transform: { target: TARGET },
  });
  const { output } = await build.write({
    dir,
    format: 'esm',
    entryFileNames: '[name].js',
    // As deep as the entries: workers and package.json are found from wherever the code has come to be.
    chunkFileNames: 'parts/[name]-[hash].js',
  });
  await build.close();
  const modules = output.flatMap((part) => (part.type === 'chunk' ? part.moduleIds : []));
  writeFileSync(join(dir, 'LICENSES.txt'), licenses(modules));
  const command = join(dir, 'cli', 'main.js');
  chmodSync(command, 0o755);
  return command;
}

/** The licences of the packages that the modules are from. */
function licenses(modules: readonly string[]): string {
  const packages = new Set(modules.flatMap((file) => packageOf(file) ?? []));
  return [...packages]
    .sort()
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
        name: string;
        version: string;
        license?: string;
      };
      const texts = readdirSync(folder)
        .filter((file) => /^(licen[cs]e|copying|notice)/i.test(file))
        .map((file) => readFileSync(join(folder, file), 'utf8').trim());
      return [`${name} ${version} (${license ?? 'see below'})`, ...texts].join('\n\n');
    })
    .join(`\n\n${'-'.repeat(80)}\n\n`);
}

/** The folder of the package that a file is in; null for one of ours. */
function packageOf(file: string): string | null {
  if (!file.includes('node_modules')) return null;
  for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
    const path = join(folder, 'package.json');
    if (existsSync(path) && 'version' in (JSON.parse(readFileSync(path, 'utf8')) as object)) return folder;
  }
  return null;
}
