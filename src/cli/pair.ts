/** `flotilla pair`: shows a six-digit code that lets one device of the same network in, once. */
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { deviceLabel, formatDuration, printable } from './text.ts';

export const pairCommand = defineCommand({
  name: 'pair',
  summary: 'show a six-digit code that lets one device of the same network in, once',
  args: { file: FILE_HELP },
  options: ['localOnly', 'home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { io } = cli;
    const { pairDevice } = await cli.api();
    const pairing = await pairDevice(args.file, options);
    let isAsked = false;
    const forgetSignals = io.onSignal((signal) => {
      if (isAsked) io.exit(EXIT[signal]);
      isAsked = true;
      void pairing.close();
    });
    const { code, expiresAt } = pairing;
    if (json) printJson(io.stdout, { event: 'code', code, expiresAt });
    else printLines(io.stdout, codeLines(code, (expiresAt - io.wallClock()) / 1_000, args.file));
    try {
      const { device, name } = await pairing.joined;
      if (json) printJson(io.stdout, { event: 'joined', device, name });
      else printLines(io.stdout, [`${deviceLabel(name, device)} is a member now.`]);
      return EXIT.ok;
    } catch (error) {
      if (isAsked) return EXIT.ok;
      throw error;
    } finally {
      forgetSignals();
      await pairing.close();
    }
  },
});

/** The code as people read it out, and what to do with it. */
function codeLines(code: string, seconds: number, file: string): string[] {
  return [
    `${code.slice(0, 3)} ${code.slice(3)}`,
    '',
    `On the other device, in the same network: flotilla join ${code} ${printable(file)}`,
    `Works once, for ${formatDuration(Math.max(0, seconds))}, while this runs; Ctrl+C takes it back.`,
  ];
}
