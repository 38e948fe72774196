/** `flotilla own`: gives an owned row, and all that is owned through it, to this device or to another member. */
import type { Owned } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { printable, shortDevice } from './text.ts';

export const ownCommand = defineCommand({
  name: 'own',
  summary: 'give an owned row, and all below it, to a device',
  args: {
    file: FILE_HELP,
    table: 'a table with "ownership": "device"',
    key: "the row's primary key (several columns: as a JSON array), or its UUID",
  },
  options: ['device', 'home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { ownRow } = await cli.api();
    const owned = await ownRow(args.file, args.table, args.key, options);
    if (json) printJson(cli.io.stdout, owned);
    else printLines(cli.io.stdout, ownLines(owned, args.key));
    return EXIT.ok;
  },
});

/** What `own` says to people. */
export function ownLines({ table, device, previous, changed }: Owned, key: string): string[] {
  const row = `${printable(table)} ${printable(key)}`;
  if (!changed) return [`${row} belongs to ${shortDevice(device)} already.`];
  const before = previous === '' ? '' : `, and to ${shortDevice(previous)} no more`;
  return [
    `${row} belongs to ${shortDevice(device)} from now on${before}.`,
    'Other devices hear of it with their next exchange.',
  ];
}
