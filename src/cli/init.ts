/** `flotilla init`: makes a library of a database, and says what of it syncs. */
import type { InitReport } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { formatCount, plural, printable, table } from './text.ts';

export const initCommand = defineCommand({
  name: 'init',
  summary: 'prepare a database for sync, and show what of it syncs',
  args: { file: FILE_HELP },
  options: ['config', 'psk', 'home', 'name', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { initLibrary } = await cli.api();
    const report = await initLibrary(args.file, options);
    if (json) printJson(cli.io.stdout, report);
    else printLines(cli.io.stdout, initLines(report, args.file, options.psk ?? false));
    return EXIT.ok;
  },
});

/** What `init` says to people. */
export function initLines(report: InitReport, file: string, psk = false): string[] {
  const shown = printable(file);
  const what = report.created
    ? `${shown} is library ${report.libraryId} now; ${plural(report.stampedRows, 'row')} that were there will sync.`
    : `${shown} was library ${report.libraryId} already; nothing was changed.`;
  const lines = [...tableLines(report.tables), '', what];
  if (psk)
    lines.push(
      'It has a pre-shared key (swarm.key in the home folder): invitations carry it, so hand them over privately.',
    );
  return [...lines, `Next: flotilla up ${shown}`];
}

/** What syncs, as a table; then what does not, and why. */
export function tableLines(tables: InitReport['tables']): string[] {
  const synced = tables.filter((one) => one.syncs);
  const left = tables.filter((one) => !one.syncs);
  const local = synced.filter((one) => one.localColumns.length > 0);
  const lines =
    synced.length === 0
      ? ['No table syncs.']
      : table(
          ['table', 'ownership', 'identity', 'references', 'rows'],
          synced.map((one) => [
            one.table,
            one.ownership,
            one.identity,
            one.references.length === 0 ? '-' : one.references.join(', '),
            formatCount(one.rows),
          ]),
        );
  if (left.length > 0 || local.length > 0) {
    lines.push('', 'Does not sync:');
    for (const one of left) lines.push(`  ${printable(one.table)}: ${printable(one.reason)}`);
    for (const one of local) {
      lines.push(`  ${printable(one.table)}.${printable(one.localColumns.join(', '))}: local by configuration`);
    }
  }
  return lines;
}
