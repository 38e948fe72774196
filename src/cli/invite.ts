/** `flotilla invite`: makes an invitation that lets one device in, once. */
import qrcode from 'qrcode-terminal';
import type { Invitation } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { displayWidth, formatDuration, printable } from './text.ts';

export const inviteCommand = defineCommand({
  name: 'invite',
  summary: 'print an invitation that lets one device in, once',
  args: { file: FILE_HELP },
  options: ['minutes', 'localOnly', 'home', 'qr', 'json'],
  async run({ args, options: { json, qr, ...options }, cli }) {
    const { stdout } = cli.io;
    const { createInvitation } = await cli.api();
    const invitation = await createInvitation(args.file, options);
    if (json) {
      printJson(stdout, invitation);
      return EXIT.ok;
    }
    const lines = inviteLines(invitation, args.file, cli.io.wallClock());
    if (qr || stdout.isTTY) {
      const code = drawQr(invitation.text);
      const width = Math.max(...code.map(displayWidth));
      // A code whose lines wrap cannot be scanned. `--qr` says that the reader knows better.
      if (qr || width <= (stdout.columns || width)) lines.push('', ...code);
      else lines.push('', `The QR code needs ${width} columns: make the window wider and run this again.`);
    }
    printLines(stdout, lines);
    return EXIT.ok;
  },
});

/**
 * What `invite` says to people, without the QR code.
 *
 * @param now - ms since 1970
 */
export function inviteLines(invitation: Invitation, file: string, now: number): string[] {
  const shown = printable(file);
  const left = Math.max(0, (invitation.expiresAt - now) / 1_000);
  const lines = [
    invitation.text,
    '',
    `On the other device: flotilla join INVITATION ${shown}`,
    `Works once, for ${formatDuration(left)} (until ${new Date(invitation.expiresAt).toISOString()}).`,
    'Whoever has it can join: hand it over privately.',
  ];
  if (invitation.addresses.length > 0) {
    lines.push('This device is reached at', ...invitation.addresses.map((address) => `  ${printable(address)}`));
  } else {
    lines.push('It holds no address: the other device has to find this one by discovery.');
  }
  if (!invitation.nodeRunning) {
    lines.push('', `No node is running here, so nobody can use it yet. Start one: flotilla up ${shown}`);
  }
  return lines;
}

/** The QR code of a text, in half blocks, one string a line. */
export function drawQr(text: string): string[] {
  let drawn = '';
  qrcode.generate(text, { small: true }, (code) => {
    drawn = code;
  });
  return drawn.replace(/\n$/, '').split('\n');
}
