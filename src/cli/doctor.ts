/** `flotilla doctor`: what of a database syncs, what does not, and what needs attention. Changes nothing. */
import type { Examination, Finding } from '../index.ts';
import { defineCommand } from './command.ts';
import { EXIT } from './context.ts';
import { tableLines } from './init.ts';
import { printJson, printLines } from './output.ts';
import { printable } from './text.ts';

export const doctorCommand = defineCommand({
  name: 'doctor',
  summary: 'examine a database: what syncs, what does not, and why',
  args: { file: 'an SQLite database, initialised or not; it is not changed' },
  options: ['config', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { examineLibrary } = await cli.api();
    const examination = await examineLibrary(args.file, options);
    if (json) printJson(cli.io.stdout, examination);
    else printLines(cli.io.stdout, doctorLines(examination, args.file));
    return examination.ok ? EXIT.ok : EXIT.failed;
  },
});

/** What `doctor` says to people. */
export function doctorLines(examination: Examination, file: string): string[] {
  const { findings, initialised, ok, tables } = examination;
  const of = (level: Finding['level']): Finding[] => findings.filter((finding) => finding.level === level);
  const lines = tables.length === 0 ? [] : [...tableLines(tables), ''];
  lines.push(
    ...section(`Cannot sync, so that "flotilla ${initialised ? 'up' : 'init'}" refuses the file:`, of('refusal')),
    ...section('Wrong:', of('problem')),
    ...section('Worth knowing:', of('advice')),
  );
  const next = initialised ? 'up' : 'init';
  lines.push(ok ? `Nothing is wrong. Next: flotilla ${next} ${printable(file)}` : 'Something is wrong: see above.');
  return lines;
}

function section(title: string, findings: readonly Finding[]): string[] {
  if (findings.length === 0) return [];
  return [title, ...findings.map(({ message }) => `  - ${printable(message)}`), ''];
}
