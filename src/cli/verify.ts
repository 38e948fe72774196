/** `flotilla verify`: is the file sound, and does every reachable peer hold the same? Exit code 1 when not. */
import type { VerifyReport } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { printJson, printLines } from './output.ts';
import { deviceLabel, plural, printable } from './text.ts';

/** Differing rows shown for each peer; `--json` gives all that the report holds. */
const SHOWN_DIFFERENCES = 20;

export const verifyCommand = defineCommand({
  name: 'verify',
  summary: 'check the file, and compare it with every reachable peer',
  args: { file: FILE_HELP },
  options: ['home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { verifyLibrary } = await cli.api();
    const report = await verifyLibrary(args.file, options);
    if (json) printJson(cli.io.stdout, report);
    else printLines(cli.io.stdout, verifyLines(report, args.file));
    return report.ok ? EXIT.ok : EXIT.failed;
  },
});

/** What `verify` says to people. */
export function verifyLines(report: VerifyReport, file: string): string[] {
  const lines = [...finding('foreign keys', report.foreignKeyViolations), ...finding('integrity', report.integrity)];
  if (!report.compared) {
    lines.push(`peers: not compared, since no node is running. Start one: flotilla up ${printable(file)}`);
  } else if (report.peers.length === 0) {
    lines.push('peers: none is connected, so there was nothing to compare with');
  }
  for (const peer of report.peers) {
    const label = deviceLabel(peer.name, peer.device);
    if (peer.error !== '') {
      lines.push(`${label}: could not be compared: ${printable(peer.error)}`);
    } else if (peer.identical) {
      lines.push(`${label}: identical`);
    } else {
      lines.push(`${label}: differs`);
      for (const one of peer.differences.slice(0, SHOWN_DIFFERENCES)) {
        lines.push(`  ${printable(one.table)} ${one.uuid}: ${one.difference}`);
      }
      const more = peer.differences.length - SHOWN_DIFFERENCES;
      if (more > 0) lines.push(`  … and ${plural(more, 'row')} more (see --json)`);
    }
  }
  lines.push(report.ok ? 'Nothing wrong was found.' : 'Something is wrong: see above.');
  return lines;
}

function finding(what: string, found: readonly string[]): string[] {
  if (found.length === 0) return [`${what}: ok`];
  return [`${what}: ${plural(found.length, 'problem')}`, ...found.map((line) => `  ${printable(line)}`)];
}
