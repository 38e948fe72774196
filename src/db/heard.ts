/**
 * What other members know, as they have said or ACKed it themselves, directly or by way of others, and when they were last heard of. It
 * only grows. (A device that was restored knows less than we heard; that is found out when it asks for a feed, see `floor.ts`.)
 */
import { bytesToHex } from '../protocol/uuid.ts';
import type { KnowledgeWire } from '../protocol/types.ts';
import type { Library } from './library.ts';

/**
 * Takes over what a device says that it knows. Returns whether that was news.
 * @param at - when it said so, ms since 1970
 */
export function hear(library: Library, device: string, { runs, hlc }: KnowledgeWire, at: number): boolean {
  if (device === library.around.device) return false;
  library.sql.run(
    `INSERT INTO flotilla_seen (device, at) VALUES (?, ?)
     ON CONFLICT (device) DO UPDATE SET at = excluded.at WHERE excluded.at > flotilla_seen.at`,
    device,
    Math.min(at, library.around.now()),
  );
  let isNews = false;
  hlc.forEach((known, i) => {
    const run = library.runOrdinal(bytesToHex(runs.subarray(i * 16, i * 16 + 16)), null);
    const changed = library.sql.run(
      `INSERT INTO flotilla_heard (device, run, hlc) VALUES (?, ?, ?)
       ON CONFLICT (device, run) DO UPDATE SET hlc = excluded.hlc WHERE excluded.hlc > flotilla_heard.hlc`,
      device,
      run,
      known,
    );
    isNews ||= changed > 0;
  });
  return isNews;
}

/** Another member, as far as we have heard. */
export interface Heard {
  readonly device: string;
  /** Local number of the run → hlc. Empty when it has never said anything. */
  readonly knowledge: ReadonlyMap<number, number>;
  /** When it was last heard of, ms since 1970; 0 for never. */
  readonly at: number;
}

/** All members but this device. */
export function heardMembers(library: Library): Heard[] {
  const devices = library.sql.rows(
    `SELECT m.device, ifnull(s.at, 0) FROM flotilla_members m LEFT JOIN flotilla_seen s ON s.device = m.device
     WHERE m.device <> ?`,
    library.around.device,
  );
  return devices.map(([device, at]) => {
    const rows = library.sql.rows('SELECT run, hlc FROM flotilla_heard WHERE device = ?', device);
    return {
      device: String(device),
      knowledge: new Map(rows.map(([run, hlc]) => [Number(run), Number(hlc)])),
      at: Number(at),
    };
  });
}
