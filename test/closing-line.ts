/**
 * The last line of a test run, for programs that read it: `tests: N passed, N failed, N skipped`, plain and alone.
 */
import type { Reporter, TestModule } from 'vitest/node';

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Counts single tests. A file that could not be loaded, or a hook that broke, counts as one failure of its own. */
export function count(modules: readonly TestModule[], unhandledErrors: number): Counts {
  const counts: Counts = { passed: 0, failed: unhandledErrors, skipped: 0 };
  for (const module of modules) {
    const failedBefore = counts.failed;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      // A test still pending when the run ends (the run was interrupted) was not passed.
      counts[state === 'pending' ? 'failed' : state] += 1;
    }
    if (module.state() === 'failed' && counts.failed === failedBefore) counts.failed += 1;
  }
  return counts;
}

export function closingLine(counts: Counts): string {
  return `tests: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
}

/** Prints the closing line when the process ends, so that nothing (a coverage table, a summary) comes after it. */
export class ClosingLine implements Reporter {
  private line = closingLine({ passed: 0, failed: 0, skipped: 0 });
  private armed = false;

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    this.line = closingLine(count(modules, unhandledErrors.length));
    if (this.armed) return;
    this.armed = true;
    process.once('exit', () => process.stdout.write(`\n${this.line}\n`));
  }
}
