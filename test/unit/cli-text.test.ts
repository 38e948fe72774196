import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { peerDetail, progressText } from '../../src/cli/live-frame.ts';
import {
  deviceLabel,
  displayWidth,
  fit,
  formatBytes,
  formatCount,
  formatDuration,
  percent,
  plural,
  printable,
  progressBar,
  shortDevice,
  table,
  truncate,
} from '../../src/cli/text.ts';
import { PEER, progress } from './cli-fakes.ts';

describe('figures', () => {
  it.each([
    [0, '<1 s'],
    [0.4, '<1 s'],
    [1, '1 s'],
    [59.2, '1 min'],
    [61, '1 min 1 s'],
    [200, '3 min 20 s'],
    [3_600, '1 h'],
    [7_530, '2 h 5 min'],
    [86_399, '23 h 59 min'],
    [273_600, '3 d 4 h'],
    [Number.POSITIVE_INFINITY, 'unknown'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1_000, '1.0 kB'],
    [12_345, '12.3 kB'],
    [999_999, '1.0 MB'],
    [94_000_000, '94.0 MB'],
    [5e15, '5000.0 TB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('groups thousands and counts in singular and plural', () => {
    expect(formatCount(182_530)).toBe('182,530');
    expect(plural(1, 'row')).toBe('1 row');
    expect(plural(2_000, 'row')).toBe('2,000 rows');
  });
});

describe('progress', () => {
  it('draws a bar of exactly the asked width, full only at the end', () => {
    expect(progressBar(0, 10, 10)).toBe('░░░░░░░░░░');
    expect(progressBar(5, 10, 10)).toBe('█████░░░░░');
    expect(progressBar(10, 10, 10)).toBe('██████████');
    expect(progressBar(999_999, 1_000_000, 10)).toBe('█████████░');
    expect(progressBar(0, 0, 4)).toBe('████');
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 80 }), (done, total, width) => {
        const bar = progressBar(done, total, width);
        expect([...bar]).toHaveLength(width);
        expect(bar.includes('░')).toBe(done < total);
      }),
    );
  });

  it('never says 100 % too early, nor more than that', () => {
    expect(percent(999_999, 1_000_000)).toBe('99 %');
    expect(percent(1, 1)).toBe('100 %');
    expect(percent(2, 1)).toBe('100 %');
  });

  it('tells rows, rate and time left, and leaves out what is not known', () => {
    expect(progressText(progress(45_000, 182_530, 52_000, 3))).toBe('45,000 of 182,530 rows, 52,000 rows/s, 3 s left');
    expect(progressText(progress(0, 10, 0, null))).toBe('0 of 10 rows');
    expect(peerDetail({ progress: null, reason: 'no answer' })).toBe('no answer');
    expect(peerDetail({ progress: null, reason: '', received: 1 })).toBe('1 row received');
  });
});

describe('text from outside', () => {
  it('cannot move the cursor, break the line or turn the direction', () => {
    expect(printable('a\x1b[2Jb\nc\u202ed\x9b1m')).toBe('a?[2Jb c?d?1m');
    expect(deviceLabel('evil\x1b]0;x\x07', PEER)).toBe('evil?]0;x? (…22222222)');
  });

  it('is cut and filled by the columns it takes', () => {
    expect(displayWidth('日本')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(truncate('laptop', 6)).toBe('laptop');
    expect(truncate('laptop', 4)).toBe('lap…');
    expect(truncate('日本語', 4)).toBe('日…');
    expect(fit('日', 4)).toBe('日  ');
    expect(truncate('laptop', 0)).toBe('');
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 40 }), (text, columns) => {
        expect(displayWidth(truncate(text, columns))).toBeLessThanOrEqual(columns);
        expect(displayWidth(fit(text, columns))).toBe(columns);
      }),
    );
  });

  it('shows the end of a peer id, and the name if there is one', () => {
    expect(shortDevice(PEER)).toBe('…22222222');
    expect(deviceLabel('', PEER)).toBe('…22222222');
    expect(deviceLabel('nas', PEER)).toBe('nas (…22222222)');
  });
});

describe('tables', () => {
  it('have no colours, and cells of one line', () => {
    const lines = table(['a', 'b'], [['one\ntwo', '\x1b[31m3']]);
    expect(lines.join('\n')).not.toContain('\x1b');
    expect(lines).toHaveLength(5);
    expect(lines[3]).toContain('one two');
  });
});
