/** The closing line of a test run tells the truth, also of what never became a test. */
import type { TestModule } from 'vitest/node';
import { describe, expect, it } from 'vitest';
import { closingLine, count } from '../closing-line.ts';

type State = 'passed' | 'failed' | 'skipped' | 'pending';

function module(state: 'passed' | 'failed', tests: readonly State[]): TestModule {
  return {
    state: () => state,
    children: { allTests: () => tests.map((one) => ({ result: () => ({ state: one }) })) },
  } as unknown as TestModule;
}

describe('closing line', () => {
  it('counts tests over all files', () => {
    const counts = count([module('passed', ['passed', 'skipped']), module('failed', ['passed', 'failed'])], 0);
    expect(closingLine(counts)).toBe('tests: 2 passed, 1 failed, 1 skipped');
  });

  it('counts a file that could not be loaded as a failure', () => {
    expect(count([module('failed', [])], 0).failed).toBe(1);
  });

  it('counts a broken hook after passed tests as a failure', () => {
    expect(count([module('failed', ['passed'])], 0)).toEqual({ passed: 1, failed: 1, skipped: 0 });
  });

  it('counts an error outside of all tests, and a test that never ended, as failures', () => {
    expect(count([module('passed', ['pending'])], 1)).toEqual({ passed: 0, failed: 2, skipped: 0 });
  });
});
