import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { unrest } from '../../examples/fleet.ts';
import { plural, Screen } from '../../examples/screen.ts';
import type { StatusReport } from '../../examples/support.ts';

function capture(isTTY: boolean): { screen: Screen; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY }) as unknown as NodeJS.WriteStream;
  const chunks: string[] = [];
  (stream as unknown as PassThrough).on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  return { screen: new Screen(stream), text: () => chunks.join('') };
}

describe('the screen of the demo', () => {
  it('is a few lines in a pipe, however often there is news', () => {
    const { screen, text } = capture(false);
    for (let done = 0; done <= 1_000; done += 1) {
      screen.bar('node 2', { done, total: 1_000, rate: 5_000, secondsLeft: 0.1 });
    }
    const lines = text().trimEnd().split('\n');
    expect(lines.map((line) => /(\d+) %/.exec(line)?.[1])).toEqual(['0', '25', '50', '75', '100']);
    expect(text()).not.toContain('\u001b');
  });

  it('redraws one line on a terminal, and clears it before the next one', () => {
    const { screen, text } = capture(true);
    screen.bar('node 2', { done: 1, total: 2, rate: 1, secondsLeft: null });
    screen.line('node 2', 'done');
    const [drawn, bar, line] = text().split('\r\u001b[K');
    expect([drawn, bar, line]).toEqual(['', expect.stringContaining('50 %'), expect.stringMatching(/^\[.*done\n$/)]);
  });

  it('counts in words', () => {
    expect([plural(1, 'file'), plural(12_345, 'file'), plural(2, 'library', 'libraries')]).toEqual([
      '1 file',
      '12,345 files',
      '2 libraries',
    ]);
  });
});

describe('what a node still has to do', () => {
  const report = (change: object): StatusReport =>
    ({
      running: true,
      peers: [{ name: 'b', state: 'live', inSync: true, reason: '' }],
      library: { unstamped: 0, waitingCount: 0, waiting: [] },
      ...change,
    }) as unknown as StatusReport;

  it('is nothing when all peers are live and in sync', () => {
    expect(unrest(report({}))).toBe('');
  });

  it.each([
    ['does not run', { running: false }],
    ['3 changes are not stamped', { library: { unstamped: 3, waitingCount: 0, waiting: [] } }],
    ['2 rows wait: no parent', { library: { unstamped: 0, waitingCount: 2, waiting: [{ detail: 'no parent' }] } }],
    ['b is live, not in sync', { peers: [{ name: 'b', state: 'live', inSync: false, reason: '' }] }],
    ['b is backoff', { peers: [{ name: 'b', state: 'backoff', inSync: true, reason: '' }] }],
    ['knows nobody', { peers: [] }],
  ])('is said in words: %s', (words, change) => {
    expect(unrest(report(change))).toContain(words);
  });
});
