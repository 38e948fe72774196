/** `flotilla status`: what the library holds, who is there, what waits. Works with and without a running node. */
import type { NodeStatus, PeerStatus } from '../index.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT } from './context.ts';
import { peerDetail } from './live-frame.ts';
import { printJson, printLines } from './output.ts';
import { deviceLabel, formatBytes, formatCount, plural, printable, shortDevice, table } from './text.ts';

/** Waiting rows shown; `--json` gives all that the status holds. */
const SHOWN_WAITING = 20;
const EVERYTHING = 'everything';

export const statusCommand = defineCommand({
  name: 'status',
  summary: 'show tables, devices, waiting rows and counters',
  args: { file: FILE_HELP },
  options: ['home', 'json'],
  async run({ args, options: { json, ...options }, cli }) {
    const { readStatus } = await cli.api();
    const status = await readStatus(args.file, options);
    if (json) printJson(cli.io.stdout, statusJson(status));
    else printLines(cli.io.stdout, statusLines(status));
    return EXIT.ok;
  },
});

/** The whole status, and beside it the sums that scripts look at. */
export function statusJson(status: NodeStatus) {
  const { counters, coordinationBytes } = status.library;
  return {
    ...status,
    batches: counters.batchesIn + counters.batchesOut,
    batchesIn: counters.batchesIn,
    batchesOut: counters.batchesOut,
    lookupQueries: counters.lookupsIn + counters.lookupsOut,
    lookupQueriesIn: counters.lookupsIn,
    lookupQueriesOut: counters.lookupsOut,
    coordinationBytes,
  };
}

/** What `status` says to people. */
export function statusLines(status: NodeStatus): string[] {
  const { library } = status;
  const lines = [
    `library    ${library.libraryId} in ${printable(status.file)}`,
    `device     ${status.device === '' ? 'not set up here yet' : deviceLabel(status.name, status.device)}`,
    `node       ${status.running ? 'running' : 'not running'}`,
    ...status.addresses.map((address) => `           ${printable(address)}`),
  ];
  if (status.psk) lines.push('network    for holders of the pre-shared key only');
  if (status.discoveryProblem !== '') lines.push(`discovery  ${printable(status.discoveryProblem)}`);
  const deleted = library.tombstones === 0 ? '' : `, ${plural(library.tombstones, 'deleted row')} remembered`;
  const fresh = library.unstamped === 0 ? '' : `, ${plural(library.unstamped, 'fresh change')} not taken up yet`;
  lines.push(`rows       ${formatCount(library.rows)}${deleted}${fresh}`, '');
  lines.push(
    ...table(
      ['table', 'ownership', 'rows'],
      library.tables.map((one) => [one.table, one.ownership, formatCount(one.rows)]),
    ),
  );
  lines.push('', ...deviceLines(status));
  if (library.pruning.behind.length > 0) lines.push('', ...pruningLines(status));
  if (library.waitingCount > 0) lines.push('', ...waitingLines(status));
  if (library.conflicts > 0) lines.push('', conflictLine(status));
  lines.push('', ...counterLines(status));
  return lines;
}

/** Members with what we know of them, then peers that are no members. */
function deviceLines(status: NodeStatus): string[] {
  const { library } = status;
  const peers = new Map(status.peers.map((peer) => [peer.device, peer]));
  const rows = library.members.map((member) => {
    const peer = peers.get(member.device);
    peers.delete(member.device);
    if (member.device === status.device)
      return [printable(member.name), shortDevice(member.device), 'this device', '', ''];
    return deviceRow(
      member.name,
      member.device,
      peer,
      peer?.inSync === true ? EVERYTHING : ackText(status, member.device),
    );
  });
  for (const peer of peers.values()) rows.push(deviceRow(peer.name, peer.device, peer, ''));
  if (rows.length === 0) return ['No device is a member yet.'];
  const notes = new Set(status.peers.flatMap(({ differences, heldUp }) => [...differences, heldUp]));
  notes.delete('');
  const uncounted = library.uncountedRecords;
  return [
    ...table(['name', 'device', 'state', 'has from us', ''], rows),
    ...[...notes].map((note) => `  ${printable(note)}`),
    ...(uncounted === 0
      ? []
      : [`  ${plural(uncounted, 'record')} of membership signed by devices that are no members: not counted`]),
  ];
}

function deviceRow(name: string, device: string, peer: PeerStatus | undefined, acked: string): string[] {
  const state = peer === undefined ? 'not connected' : peer.inSync ? `${peer.state}, in sync` : peer.state;
  const via = peer === undefined || peer.via === '' ? '' : `via ${peer.via}`;
  const detail = peer === undefined ? '' : peerDetail(peer);
  return [name, shortDevice(device), state, acked, [detail, via].filter((part) => part !== '').join(', ')];
}

/** How far a member has ACKed our feed, in words, when no session tells more: it ACKs nothing that came from itself. */
function ackText(status: NodeStatus, device: string): string {
  const ack = status.library.acks[device];
  if (ack === undefined) return 'nothing ACKed';
  return ack.complete && ack.position >= status.library.head
    ? EVERYTHING
    : `change ${formatCount(ack.position)} of ${formatCount(status.library.head)}`;
}

function waitingLines(status: NodeStatus): string[] {
  const { waiting, waitingCount } = status.library;
  const shown = waiting.slice(0, SHOWN_WAITING);
  const lines = [
    `Waiting: ${plural(waitingCount, 'row')}`,
    ...shown.map((row) => `  ${printable(row.table)} ${row.uuid}: ${row.reason}: ${printable(row.detail)}`),
  ];
  if (waitingCount > shown.length) lines.push(`  … and ${plural(waitingCount - shown.length, 'row')} more`);
  return lines;
}

/** Who keeps deletes from being forgotten, and since when. */
function pruningLines({ library: { pruning, members } }: NodeStatus): string[] {
  const names = new Map(members.map(({ device, name }) => [device, name]));
  return [
    'Deletes are remembered until every device has them, and old records of conflicts until it has their outcome:',
    ...pruning.behind.map(({ device, tombstones, records, since, seen, setAside }) => {
      const last = seen === 0 ? 'was never heard of' : `was last heard of on ${formatDay(seen)}`;
      const lacked = [
        ...(tombstones > 0 ? [plural(tombstones, 'delete')] : []),
        ...(records > 0 ? [plural(records, 'outcome')] : []),
      ].join(' and ');
      const kept = setAside ? ', and is not waited for' : '';
      return `  ${deviceLabel(names.get(device) ?? '', device)} lacks ${lacked}, the oldest of ${formatDay(since)}; it ${last}${kept}`;
    }),
  ];
}

function formatDay(at: number): string {
  return new Date(at).toISOString().slice(0, 'yyyy-mm-dd'.length);
}

function conflictLine({ library: { conflicts }, file }: NodeStatus): string {
  return `Conflicts: ${plural(conflicts, 'value or row', 'values or rows')} discarded and not restored; see flotilla conflicts ${printable(file)}`;
}

function counterLines(status: NodeStatus): string[] {
  const { counters, coordinationBytes } = status.library;
  const lines = table(
    ['', 'in, since init', 'out, since start'],
    [
      ['rows', formatCount(counters.rowsIn), formatCount(counters.rowsOut)],
      ['batches', formatCount(counters.batchesIn), formatCount(counters.batchesOut)],
      ['look-up queries', formatCount(counters.lookupsIn), formatCount(counters.lookupsOut)],
    ],
  );
  lines.push(`coordination data: ${formatBytes(coordinationBytes)}`);
  if (status.running) lines.push(`longest event loop delay: ${formatCount(status.maxEventLoopDelayMs)} ms`);
  return lines;
}
