/** What the files of devices say of knowledge, read again only when they have changed: it is looked at after everything that happens. */
import { bytesToHex } from '../../src/protocol/uuid.ts';
import type { SimDevice } from './device.ts';
import { knowledgeOf } from './mutants.ts';

export interface Said {
  /** What the device knows: run (hex) → hlc. */
  readonly known: ReadonlyMap<string, number>;
  /** What it has heard of others. */
  readonly heard: ReadonlyArray<readonly [about: string, run: string, hlc: number]>;
}

export class Files {
  readonly #last = new Map<SimDevice, Said & { readonly state: string }>();

  read(device: SimDevice): Said {
    // What a crash would leave is another file then.
    const state = device.unsynced === null ? device.state : null;
    const before = this.#last.get(device);
    if (before !== undefined && before.state === state) return before;
    const rows = device.rows(
      'SELECT h.device, r.id, h.hlc FROM flotilla_heard h JOIN flotilla_runs r ON r.run = h.run ORDER BY 1, 2',
    );
    const said = {
      known: knowledgeOf(device.file()),
      heard: rows.map(([about, run, hlc]) => [String(about), bytesToHex(run as Uint8Array), Number(hlc)] as const),
    };
    if (state !== null) this.#last.set(device, { ...said, state });
    return said;
  }
}
