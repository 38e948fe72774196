/** `flotilla revoke`: ends the membership of another device. */
import type { Revoked } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { deviceLabel, printable } from './text.ts';

export const revokeCommand = defineCommand({
  name: 'revoke',
  summary: 'remove another device from the library',
  args: { file: FILE_HELP, device: 'the device, by name or by id as "flotilla devices" shows it' },
  options: ['home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { revokeDevice } = await cli.api();
    const revoked = await revokeDevice(args.file, args.device, options);
    if (json) printJson(cli.io.stdout, revoked);
    else printLines(cli.io.stdout, revokedLines(revoked, args.file));
    return EXIT.ok;
  },
});

/** What `revoke` says to people. */
export function revokedLines({ device, name, changed }: Revoked, file: string): string[] {
  const label = deviceLabel(name, device);
  if (!changed) return [`${label} is a member no more already.`];
  return [
    `${label} is a member no more. It keeps the copy that it has.`,
    'Other devices refuse it as soon as they hear of it, with their next exchange.',
    `To let it in again: flotilla invite ${printable(file)}`,
  ];
}
