/** `flotilla wait`: until what is committed now is known to be durable on other devices. */
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { plural, shortDevice } from './text.ts';

const SECOND_MS = 1000;

export const waitCommand = defineCommand({
  name: 'wait',
  summary: 'wait until what is committed now is on other devices',
  args: { file: FILE_HELP },
  options: ['devices', 'timeout', 'home', 'json'],
  async run({ args, options: { json, timeout, ...options }, cli }) {
    const { waitReplicated } = await cli.api();
    const limit = timeout === undefined ? {} : { timeoutMs: timeout * SECOND_MS };
    const { devices } = await waitReplicated(args.file, { ...options, ...limit });
    if (json) printJson(cli.io.stdout, { devices });
    else
      printLines(cli.io.stdout, [
        `On ${plural(devices.length, 'other device')}: ${devices.map(shortDevice).join(', ')}.`,
      ]);
    return EXIT.ok;
  },
});
