/** `flotilla join`: becomes a member of somebody's library. */
import type { JoinReport } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { UsageError } from './failure.ts';
import { tableLines } from './init.ts';
import { printJson, printLines } from './output.ts';
import { plural, printable, shortDevice } from './text.ts';

export const joinCommand = defineCommand({
  name: 'join',
  summary: 'become a member of a library by invitation or code',
  args: {
    invitation: 'what `flotilla invite` printed, or the six digits that `flotilla pair` shows',
    file: `${FILE_HELP}; created if it does not exist`,
  },
  options: ['union', 'same', 'name', 'localOnly', 'home', 'json'],
  async run({ args, options: { json, union, same, ...options }, cli }) {
    if (union && same)
      throw new UsageError('--union and --same exclude each other: use the one that fits the rows that are here.');
    const { joinLibrary } = await cli.api();
    const report = await joinLibrary(args.invitation, args.file, {
      ...options,
      ...(union ? { existing: 'union' } : same ? { existing: 'same' } : {}),
    });
    if (json) printJson(cli.io.stdout, report);
    else printLines(cli.io.stdout, joinLines(report, args.file));
    return EXIT.ok;
  },
});

/** What `join` says to people. */
export function joinLines(report: JoinReport, file: string): string[] {
  const shown = printable(file);
  const lines = [...tableLines(report.init.tables)];
  if (report.omitted.length > 0) {
    lines.push('', 'Not taken over from the other device:');
    for (const one of report.omitted) lines.push(`  ${printable(one.name)}: ${printable(one.reason)}`);
  }
  lines.push('', `${shown}${report.created ? ', made now,' : ''} is part of library ${report.libraryId}.`);
  if (report.init.stampedRows > 0) lines.push(`${plural(report.init.stampedRows, 'row')} that were here will sync.`);
  lines.push(
    `This device is ${shortDevice(report.device)}, let in by ${shortDevice(report.invitedBy)}.`,
    `Next: flotilla up ${shown}`,
  );
  return lines;
}
