/** `flotilla migrate`: changes the schema or the configuration of a library, and keeps what other devices still have. */
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { printable } from './text.ts';

export const migrateCommand = defineCommand({
  name: 'migrate',
  summary: 'run SQL that changes the schema, and bring the library to it',
  args: { file: FILE_HELP },
  options: ['sql', 'config', 'home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { migrateLibrary } = await cli.api();
    const report = await migrateLibrary(args.file, options);
    if (json) printJson(cli.io.stdout, report);
    else {
      const lines = report.changes.map((change) => printable(change));
      printLines(cli.io.stdout, lines.length === 0 ? ['The schema is as it was.'] : lines);
    }
    return EXIT.ok;
  },
});
