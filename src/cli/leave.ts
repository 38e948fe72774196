/** `flotilla leave`: ends the membership of this device. */
import type { LeaveReport } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { deviceLabel, printable } from './text.ts';

export const leaveCommand = defineCommand({
  name: 'leave',
  summary: 'leave the library, and keep this copy',
  args: { file: FILE_HELP },
  options: ['localOnly', 'home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { leaveLibrary } = await cli.api();
    const report = await leaveLibrary(args.file, options);
    if (json) printJson(cli.io.stdout, report);
    else printLines(cli.io.stdout, leaveLines(report, args.file));
    return EXIT.ok;
  },
});

/** What `leave` says to people. */
export function leaveLines({ told, untold }: LeaveReport, file: string): string[] {
  const names = (devices: LeaveReport['told']): string =>
    devices.map(({ name, device }) => deviceLabel(name, device)).join(', ');
  const lines = ['This device is a member no more, and its node has stopped.'];
  if (told.length > 0) lines.push(`Told: ${names(told)}`);
  if (untold.length > 0 && told.length > 0) lines.push(`Not in reach, and told by the others: ${names(untold)}`);
  if (untold.length > 0 && told.length === 0)
    lines.push(
      `Nobody was in reach. Until somebody runs "flotilla revoke" there, this device stays in the list of ${names(untold)}.`,
    );
  lines.push(`${printable(file)} keeps its rows, and Flotilla's tables and triggers beside them.`);
  return lines;
}
