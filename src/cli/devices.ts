/** `flotilla devices`: who is and was a member, let in by whom, and when this device was last in touch. */
import type { DeviceInfo, DeviceList } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { formatDuration, printable, shortDevice, table } from './text.ts';

export const devicesCommand = defineCommand({
  name: 'devices',
  summary: 'list the devices of a library',
  args: { file: FILE_HELP },
  options: ['home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { listDevices } = await cli.api();
    const list = await listDevices(args.file, options);
    if (json) printJson(cli.io.stdout, list);
    else printLines(cli.io.stdout, devicesLines(list, cli.io.wallClock()));
    return EXIT.ok;
  },
});

/** What `devices` says to people. @param now - ms since 1970 */
export function devicesLines({ devices }: DeviceList, now: number): string[] {
  if (devices.length === 0) return ['No device is a member yet.'];
  const rows = devices.map((one) => [one.name, one.device, addedText(one), seenText(one, now), standingText(one)]);
  return table(['name', 'device', 'let in', 'last seen', ''], rows);
}

function addedText({ addedAt, invitedBy, invitedByName }: DeviceInfo): string {
  return `${dayText(addedAt)}${invitedBy === '' ? ', the first' : ` by ${called(invitedByName, invitedBy)}`}`;
}

function seenText({ isSelf, connected, lastSeen }: DeviceInfo, now: number): string {
  if (isSelf) return 'this device';
  if (connected) return 'connected';
  return lastSeen === null ? 'never' : `${formatDuration(Math.max(0, now - lastSeen) / 1000)} ago`;
}

function standingText({ device, revoked }: DeviceInfo): string {
  if (revoked === null) return '';
  const day = dayText(revoked.at);
  return revoked.by === device ? `left ${day}` : `removed ${day} by ${called(revoked.byName, revoked.by)}`;
}

function called(name: string, device: string): string {
  return name === '' ? shortDevice(device) : printable(name);
}

function dayText(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
