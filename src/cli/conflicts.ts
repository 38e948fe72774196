/** `flotilla conflicts`: what was discarded of what people wrote; `flotilla conflicts restore`: one of it put back. */
import type { ConflictList, ConflictRecord, ConflictSide, RestoredConflict, RowName, ShownValue } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { UsageError } from './failure.ts';
import { printJson, printLines } from './output.ts';
import { deviceLabel, formatBytes, formatCount, plural, printable, shortDevice, truncate } from './text.ts';

/** Records shown to people unless they ask for more: what fits on a screen or two. */
const SHOWN_RECORDS = 20;
/** Columns of a terminal that a value may take. */
const VALUE_COLUMNS = 60;

export const conflictsCommand = defineCommand({
  name: 'conflicts',
  summary: 'list what was discarded of what people wrote, newest first',
  args: { file: FILE_HELP },
  options: ['table', 'limit', 'home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { listConflicts } = await cli.api();
    const list = await listConflicts(args.file, json ? options : { limit: SHOWN_RECORDS, ...options });
    if (json) printJson(cli.io.stdout, list);
    else printLines(cli.io.stdout, conflictLines(list, args.file));
    return EXIT.ok;
  },
});

export const restoreCommand = defineCommand({
  name: 'conflicts restore',
  summary: 'put back what a conflict discarded, as a change of this device',
  args: { id: 'number of the record, as "flotilla conflicts" shows it', file: FILE_HELP },
  options: ['home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    if (!/^[1-9]\d{0,14}$/.test(args.id))
      throw new UsageError(`"${args.id}" is no number of a record: give a whole number.`);
    const { restoreConflict } = await cli.api();
    const restored = await restoreConflict(args.file, Number(args.id), options);
    if (json) printJson(cli.io.stdout, restored);
    else printLines(cli.io.stdout, [restoredLine(restored)]);
    return EXIT.ok;
  },
});

/** What `conflicts` says to people. */
export function conflictLines({ conflicts, total, unrestored }: ConflictList, file: string): string[] {
  if (total === 0) return ['Nothing was discarded.'];
  const lines = conflicts.flatMap((record) => [...recordLines(record), '']);
  if (total > conflicts.length) lines.push(`… and ${plural(total - conflicts.length, 'older record')} (see --limit)`);
  lines.push(`${plural(total, 'record')}, ${formatCount(unrestored)} of them not restored.`);
  lines.push(`To put one back: flotilla conflicts restore <number> ${printable(file)}`);
  return lines;
}

function recordLines(record: ConflictRecord): string[] {
  const { id, table, row, column, columns, lost, kept, reason, restoredAt } = record;
  const restored = restoredAt === null ? '' : `, restored ${timeText(restoredAt)}`;
  const what = column === null ? 'the whole row' : printable(column);
  const lines = [`${id}  ${rowText(table, row)}: ${what}${restored}`];
  if (column === null && columns === null) {
    lines.push(`    deleted ${sideText(lost)}, kept ${sideText(kept)}`);
  } else if (columns === null) {
    lines.push(
      `    lost  ${valueText(lost.value)}  ${sideText(lost)}`,
      `    kept  ${valueText(kept.value)}  ${sideText(kept)}`,
    );
  } else {
    for (const [name, value] of Object.entries(columns))
      lines.push(`    lost  ${printable(name)}: ${valueText(value)}`);
    lines.push(`    written ${sideText(lost)}, gone ${sideText(kept)}`);
  }
  lines.push(`    ${printable(reason)}`);
  return lines;
}

function restoredLine({ table, row, column, isDelete }: RestoredConflict): string {
  if (isDelete) return `${rowText(table, row)}: the row is deleted again.`;
  return `${rowText(table, row)}: ${column === null ? 'the row is there again' : `${printable(column)} has its value again`}.`;
}

/** Which row: its key and a text of it where it has them. */
function rowText(table: string, { uuid, key, text }: RowName): string {
  const quoted = text === '' ? '' : truncate(JSON.stringify(printable(text)), VALUE_COLUMNS);
  const name = [printable(key), quoted].filter((part) => part !== '').join(' ');
  return `${printable(table)} ${name === '' ? uuid : name}`;
}

function valueText(value: ShownValue | null): string {
  if (value === null) return '-';
  if (value.type === 'text') {
    const more = value.size > value.text.length ? ` (${plural(value.size, 'character')})` : '';
    return `${truncate(JSON.stringify(printable(value.text)), VALUE_COLUMNS)}${more}`;
  }
  if (value.type === 'blob') return `${truncate(`x'${value.text}'`, VALUE_COLUMNS)} (${formatBytes(value.size)})`;
  return printable(value.text);
}

/** By whom and when. */
function sideText({ device, name, at }: ConflictSide): string {
  const who = device === '' ? 'an unknown device' : name === '' ? shortDevice(device) : deviceLabel(name, device);
  return `by ${who}, ${timeText(at)}`;
}

function timeText(at: number): string {
  return new Date(at)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC');
}
