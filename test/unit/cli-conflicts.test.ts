import { describe, expect, it } from 'vitest';
import type { ConflictList, ConflictRecord, RestoredConflict } from '../../src/index.ts';
import type { Api } from '../../src/cli/context.ts';
import { run } from '../../src/cli/program.ts';
import { statusLines } from '../../src/cli/status.ts';
import { fakeApi, FakeIo, ME, nodeStatus, PEER } from './cli-fakes.ts';

const UUID = '01900000-0000-7000-8000-000000000001';

const VALUE: ConflictRecord = {
  id: 12,
  table: 'people',
  row: { uuid: UUID, key: '5', text: 'Ann\u001b[2J' },
  column: 'phone',
  columns: null,
  lost: { value: { type: 'text', text: '0123', size: 4 }, device: ME, name: 'laptop', at: Date.UTC(2030, 0, 1, 10) },
  kept: { value: { type: 'null', text: 'NULL', size: 0 }, device: PEER, name: '', at: Date.UTC(2030, 0, 1, 11) },
  rule: 'later-write',
  reason: 'another device wrote this column later',
  at: Date.UTC(2030, 0, 2),
  restoredAt: null,
};

const ROW: ConflictRecord = {
  ...VALUE,
  id: 11,
  row: { uuid: UUID, key: '', text: '' },
  column: null,
  columns: {
    name: { type: 'text', text: 'x'.repeat(200), size: 5000 },
    photo: { type: 'blob', text: '00ff', size: 2 },
    boss_id: { type: 'reference', text: 'people 1 "Bob"', size: 0 },
  },
  lost: { ...VALUE.lost, value: null },
  kept: { ...VALUE.kept, value: null, device: '' },
  reason: 'another device deleted the row',
  restoredAt: Date.UTC(2030, 0, 3),
};

const LIST: ConflictList = { conflicts: [VALUE, ROW], total: 30, unrestored: 29 };
const RESTORED: RestoredConflict = { id: 12, table: 'people', row: VALUE.row, column: 'phone', isDelete: false };

async function running(
  argv: readonly string[],
  api: Partial<Api>,
): Promise<{ io: FakeIo; code: number; lines: string[] }> {
  const io = new FakeIo();
  const code = await run(argv, io, fakeApi(api));
  return { io, code, lines: io.stdout.lines };
}

describe('conflicts', () => {
  it('tells row, column, both values, who, when and why, and how to put one back', async () => {
    const asked: unknown[] = [];
    const listConflicts: Api['listConflicts'] = (file, options) => {
      asked.push(file, options);
      return Promise.resolve(LIST);
    };
    const { lines, code } = await running(['conflicts', 'a.db', '--table', 'people'], { listConflicts });
    expect(code).toBe(0);
    expect(asked).toEqual(['a.db', { table: 'people', limit: 20 }]);
    expect(lines).toEqual([
      '12  people 5 "Ann?[2J": phone',
      '    lost  "0123"  by laptop (…11111111), 2030-01-01 10:00:00 UTC',
      '    kept  NULL  by …22222222, 2030-01-01 11:00:00 UTC',
      '    another device wrote this column later',
      '',
      `11  people ${UUID}: the whole row, restored 2030-01-03 00:00:00 UTC`,
      `    lost  name: "${'x'.repeat(58)}… (5,000 characters)`,
      "    lost  photo: x'00ff' (2 B)",
      '    lost  boss_id: people 1 "Bob"',
      '    written by laptop (…11111111), 2030-01-01 10:00:00 UTC, gone by an unknown device, 2030-01-01 11:00:00 UTC',
      '    another device deleted the row',
      '',
      '… and 28 older records (see --limit)',
      '30 records, 29 of them not restored.',
      'To put one back: flotilla conflicts restore <number> a.db',
    ]);
  });

  it('says so when there is nothing', async () => {
    const listConflicts = (): Promise<ConflictList> => Promise.resolve({ conflicts: [], total: 0, unrestored: 0 });
    expect((await running(['conflicts', 'a.db'], { listConflicts })).lines).toEqual(['Nothing was discarded.']);
  });

  it('gives machines the list, with no limit of its own', async () => {
    const asked: unknown[] = [];
    const listConflicts: Api['listConflicts'] = (_file, options) => {
      asked.push(options);
      return Promise.resolve(LIST);
    };
    const { io } = await running(['conflicts', 'a.db', '--json'], { listConflicts });
    expect(io.stdout.json).toEqual([LIST]);
    await running(['conflicts', 'a.db', '--json', '--limit', '7'], { listConflicts });
    expect(asked).toEqual([{}, { limit: 7 }]);
  });

  it('takes no limit that is none', async () => {
    const { io, code } = await running(['conflicts', 'a.db', '--limit', '0'], {});
    expect(code).toBe(2);
    expect(io.stderr.text).toContain('--limit: must be a whole number from 1 to 1000');
  });
});

describe('conflicts restore', () => {
  const asked: unknown[] = [];
  const restoreConflict: Api['restoreConflict'] = (file, id, options) => {
    asked.push([file, id, options]);
    return Promise.resolve(RESTORED);
  };

  it('puts one back and says what has its value again', async () => {
    const { lines, code } = await running(['conflicts', 'restore', '12', 'a.db', '--home', 'h'], { restoreConflict });
    expect(code).toBe(0);
    expect(asked.splice(0)).toEqual([['a.db', 12, { home: 'h' }]]);
    expect(lines).toEqual(['people 5 "Ann?[2J": phone has its value again.']);
  });

  it.each([[['conflicts', 'restore', '12', 'a.db', '--json']], [['conflicts', '--json', 'restore', '12', 'a.db']]])(
    'gives machines what it did, wherever the flag stands: %j',
    async (argv) => {
      const { io } = await running(argv, { restoreConflict });
      expect(io.stdout.json).toEqual([RESTORED]);
    },
  );

  it.each(['x', '0', '1.5', '-1', '99999999999999999'])('takes %s for no number of a record', async (id) => {
    const { io, code } = await running(['conflicts', 'restore', '--', id, 'a.db'], {});
    expect(code).toBe(2);
    expect(io.stderr.text).toContain('is no number of a record');
  });
});

describe('status', () => {
  it('says how many conflicts were not restored, if any', () => {
    const { library } = nodeStatus({});
    const lines = statusLines(nodeStatus({ library: { ...library, conflicts: 3 } }));
    expect(lines).toContain('Conflicts: 3 values or rows discarded and not restored; see flotilla conflicts files.db');
    expect(statusLines(nodeStatus({})).join()).not.toContain('Conflicts');
  });
});
