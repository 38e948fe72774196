/**
 * Builds of the sources that are broken on purpose, each in one place, and the hand-made trace that must find it: tests of the rule that
 * it breaks. `npm run sim -- --mutants` runs each trace against its build (`builds.config.ts`); a test sees to it that the places are
 * where they are said to be. What only goes in and out of the writing service is broken in `mutants.ts`.
 */

export interface BrokenBuild {
  readonly name: string;
  /** What it does wrong. */
  readonly what: string;
  readonly changes: readonly Change[];
  /** The file with the trace, and what the names of its tests have in them. */
  readonly trace: readonly [file: string, name: string];
}

/** A piece of a source file that is there once, and what stands there instead. */
export interface Change {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const change = (file: string, from: string, to: string): Change => ({ file: `src/db/${file}.ts`, from, to });

const EVERYTHING_IS_KNOWN = change(
  'library',
  'isSettled(run: number, hlc: number): boolean {',
  'isSettled(run: number, hlc: number): boolean {\n    if (hlc >= 0) return true;',
);

export const BROKEN_BUILDS: readonly BrokenBuild[] = [
  {
    name: 'merge-before-stamping',
    what: 'a batch is merged while what was written here is still marked only',
    changes: [change('apply', 'stampAll(library) > 0 || ', '')],
    trace: ['test/unit/engine-traces.test.ts', 'A7'],
  },
  {
    name: 'no-floor-check',
    what: 'who lies below a floor takes an ordinary pass, and gives one',
    changes: [
      change('floor', 'return [...floor].some(([run, hlc]) => (knowledge.get(run) ?? -1) < hlc);', 'return false;'),
    ],
    trace: ['test/conformance/pruning.test.ts', 'F2'],
  },
  {
    name: 'floor-not-taken-over',
    what: 'who has reconciled keeps its old floor',
    changes: [
      change(
        'reconcile',
        'for (const [run, hlc] of entriesOf(floor)) raiseFloor(library, library.runOrdinal(run, null), hlc);',
        '',
      ),
    ],
    trace: ['test/conformance/pruning.test.ts', 'F2'],
  },
  {
    name: 'cursor-by-position',
    what: 'a cursor is accepted if its position lies in the history, whatever its head and run',
    changes: [
      change(
        'history',
        'if (cursor.head > headOf(sql).lsn || cursor.position > cursor.head || cursor.position < 0) return false;',
        '',
      ),
      change('history', 'return runAt(sql, cursor.head) === cursor.run;', 'return cursor.position <= headOf(sql).lsn;'),
    ],
    trace: ['test/conformance/feed.test.ts', 'A2'],
  },
  {
    name: 'over-by-knowledge',
    what: 'a pass is taken to be over where both know the same, wherever the cursor stands',
    changes: [
      {
        file: 'src/actors/asking.ts',
        from: " && pass === 'ordinary' && isAt(cursor, head);",
        to: ' && cursor !== null;',
      },
    ],
    trace: ['test/unit/actors-reconnect.test.ts', 'A21'],
  },
  {
    name: 'over-without-records',
    what: 'a pass is over as the receiver says, whatever records of membership it has',
    changes: [change('feed', 'position === cursor.head && led.hasLed;', 'position === cursor.head;')],
    trace: ['test/conformance/nothing-new.test.ts', 'A21'],
  },
  {
    name: 'stamps-in-between',
    what: 'whoever tells of versions that came in a broken pass tells of those between them as well',
    changes: [
      {
        file: 'src/protocol/stamp-set.ts',
        from: 'if (last !== undefined && hlc <= last + 1)',
        to: 'if (last !== undefined)',
      },
    ],
    trace: ['test/conformance/takeover.test.ts', 'A16'],
  },
  {
    name: 'lost-and-still-told-of',
    what: 'a row of which a column was lost and has come back is told of as if it were whole',
    changes: [change('library', 'distrustStamps(this);', '')],
    trace: ['test/conformance/takeover.test.ts', 'A16'],
  },
  {
    name: 'dropped-tables-are-deletes',
    what: 'rows of a table that a member has dropped are taken for deleted by whoever reconciles with it',
    changes: [change('reconcile', '.filter(({ wire }) => !lost.includes(wire))', '')],
    trace: ['test/conformance/pruning.test.ts', 'G5'],
  },
  {
    name: 'births-by-column',
    what: 'two versions with different births are joined column by column',
    changes: [
      change(
        'merge',
        'const births = library.compare(birthHlc, birthRun, known.birthHlc, known.birthRun);',
        'const births = 0;',
      ),
      change(
        'merge',
        'const isReborn = library.compare(birthHlc, birthRun, row.birthHlc, row.birthRun) > 0;',
        'const isReborn = false;',
      ),
    ],
    trace: ['test/conformance/columns.test.ts', 'C3'],
  },
  {
    name: 'clock-blind-to-others',
    what: 'stamps of others do not move the own clock',
    changes: [change('library', 'if (hlc > this.#hlc) this.#hlc = hlc;', '')],
    trace: ['test/conformance/apply.test.ts', 'A11'],
  },
  {
    name: 'clock-not-kept',
    what: 'the greatest stamp is forgotten at the next start',
    changes: [change('library', 'this.#hlc = Number(clock?.[0] ?? 0);', 'this.#hlc = 0;')],
    trace: ['test/conformance/apply.test.ts', 'A11'],
  },
  {
    name: 'run-of-the-device',
    what: 'each opening stamps under the same run, also after a restore',
    changes: [
      change(
        'library',
        'const id = this.around.randomBytes(16);',
        'const id = new Uint8Array(16).fill(this.around.device.codePointAt(0) ?? 0);',
      ),
    ],
    trace: ['test/conformance/feed.test.ts', 'A12'],
  },
  {
    name: 'pending-dropped',
    what: 'a version that cannot stand is dropped',
    changes: [
      change(
        'pending',
        'if (known === undefined) {\n    forgetPending(library, uuid);',
        'if (known === null) {\n    forgetPending(library, uuid);',
      ),
    ],
    trace: ['test/unit/engine-waiting.test.ts', 'A9'],
  },
  {
    name: 'parents-not-first',
    what: 'what rows refer to goes in its own place in the feed',
    changes: [change('feed', 'if (lsn <= upTo || ', 'if (lsn >= 0 || lsn <= upTo || ')],
    trace: ['test/conformance/feed.test.ts', 'A1'],
  },
  {
    name: 'collation-blind',
    what: 'a change is none where the collation of the column takes both values for equal',
    changes: [change('capture', '${before} IS NOT ${after} COLLATE BINARY', '${before} IS NOT ${after}')],
    trace: ['test/conformance/values-cells.test.ts', 'V6'],
  },
  {
    name: 'ownership-by-arrival',
    what: 'any version of an owned row is taken, whoever wrote it',
    changes: [change('owners', "return owner === writer ? 'valid' : 'invalid';", "return 'valid';")],
    trace: ['test/conformance/ownership-rules.test.ts', 'O6'],
  },
  {
    name: 'titles-ignored',
    what: 'versions of an owned row compare by their stamps alone',
    changes: [
      change(
        'owned-versions',
        'return compareTenures(order, tenureOf(a.cells), tenureOf(b.cells)) || order(a.hlc, a.run, b.hlc, b.run);',
        'return order(a.hlc, a.run, b.hlc, b.run);',
      ),
    ],
    trace: ['test/conformance/ownership-rules.test.ts', 'O5'],
  },
  {
    name: 'effects-at-page-level',
    what: 'what a delete means for others is decided with each page',
    changes: [
      change(
        'apply',
        'if (!complete) return changed;',
        'if (!complete) { settle(library, (versions, doomed) => this.#mergeAndWake(versions, holdDeletes, true, doomed), holdDeletes); return changed; }',
      ),
      EVERYTHING_IS_KNOWN,
    ],
    trace: ['test/conformance/deletes.test.ts', 'D1'],
  },
  {
    name: 'effects-before-all-is-known',
    what: 'what a delete means is decided though stamps of the conflict are not known here',
    changes: [EVERYTHING_IS_KNOWN],
    trace: ['test/conformance/deletes.test.ts', 'D1'],
  },
  {
    name: 'effects-unstamped',
    what: 'what a delete means is carried out unseen by the triggers',
    changes: [
      change(
        'stamp',
        "library.sql.run('UPDATE flotilla_capture SET suspended = 0 WHERE id = 1');\n  work();",
        'work();',
      ),
    ],
    trace: ['test/conformance/unique.test.ts', 'U4'],
  },
  {
    name: 'updates-resurrect',
    what: 'a version outlives a later delete of its row',
    changes: [
      change(
        'killed',
        "if (model.ownership === 'shared') return library.compare(birthHlc, birthRun, tombstone.hlc, tombstone.run) <= 0;",
        "if (model.ownership === 'shared') return false;",
      ),
    ],
    trace: ['test/conformance/apply.test.ts', 'A8'],
  },
  {
    name: 'silent-members-not-counted',
    what: 'deletes are forgotten without a member that has never said what it knows',
    changes: [change('floor', 'return knowledge.size > 0 && now - at', 'return knowledge.size === 0 || now - at')],
    trace: ['test/conformance/pruning.test.ts', 'F1'],
  },
  {
    name: 'prune-without-birth',
    what: 'a delete is forgotten that all have, though somebody has not heard of the birth of what died',
    changes: [change('floor', 'JOIN known b ON b.run = t.birth_run AND t.birth_hlc <= b.hlc', '')],
    trace: ['test/conformance/pruning.test.ts', 'F1'],
  },
  {
    name: 'prune-past-a-newcomer',
    what: 'deletes are forgotten though somebody knows of what has not come here',
    changes: [change('floor', 'if (ahead.length > 0) return', 'if (ahead.length < 0) return')],
    trace: ['test/conformance/pruning.test.ts', 'F1'],
  },
  {
    name: 'knowledge-of-others-exaggerated',
    what: 'what a member lacks of what the teller knows is not said',
    changes: [
      change(
        'heard',
        'const lower = [...base].filter(([run, hlc]) => (knowledge.get(run) ?? 0) < hlc);',
        'const lower: [number, number][] = [];',
      ),
    ],
    trace: ['test/conformance/pruning.test.ts', 'F4'],
  },
  {
    name: 'revoked-still-served',
    what: 'who was removed goes on giving and getting',
    changes: [change('members', '  if (isRevoked(sql, device))\n', '  if (isRevoked(sql, `not ${device}`))\n')],
    trace: ['test/conformance/membership.test.ts', 'P8'],
  },
  {
    name: 'signatures-not-checked',
    what: 'records of membership are taken whoever signed them',
    changes: [
      change(
        'members',
        'if (library.around.seal.isSignedBy(signer, signedBytes(library.libraryId, text), signature)) return record;',
        'if (signature.length >= 0) return record;',
      ),
    ],
    trace: ['test/conformance/membership.test.ts', 'P2'],
  },
  {
    name: 'identities-at-random',
    what: 'a row that is stamped again gets another identity',
    changes: [
      change('identity', 'if (last !== undefined && at <= last.at && n <= last.n) return', 'if (n > 0) return'),
    ],
    trace: ['test/conformance/faults.test.ts', 'K2'],
  },
];

/** The broken text of a file; unchanged if none of the changes is in it. */
export function broken(build: BrokenBuild, file: string, text: string): string {
  return build.changes
    .filter((one) => one.file === file)
    .reduce((changed, { from, to }) => changed.replace(from, () => to), text);
}
