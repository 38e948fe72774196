/**
 * Everything that SQL lets a program do, by every program that this machine has, with foreign keys and without: the file holds
 * what it would hold without capture, and another device comes to hold the same.
 */
import { afterEach, describe, expect, it } from 'vitest';

import { ABSENT_WRITERS, OUTSIDE_WRITERS, type OutsideWriter } from '../support/writers.ts';
import { REPAIR, REPERTOIRE, RESET } from '../support/repertoire.ts';
import { Written } from '../support/written.ts';

const ENFORCED = [
  ['with foreign keys', 'ON'],
  ['without foreign keys', 'OFF'],
] as const;

let written: Written | undefined;
afterEach(() => {
  written?.close();
  written = undefined;
});

async function expectCaptured(by: OutsideWriter, enforced: 'ON' | 'OFF', sql: string): Promise<void> {
  written = new Written();
  const script = `PRAGMA foreign_keys = ${enforced};\n${sql}\n`;
  by.write(written.file, script);
  by.write(written.plainFile, script);
  written.expectUndisturbed();
  const changed = written.library.rows('SELECT count(*) FROM flotilla_marks');
  expect(Number(changed[0]?.[0])).toBeGreaterThan(0);
  if (written.library.violations().length > 0) {
    // Nobody else gets to see a reference to nothing; what is whole goes out.
    written.other.pull(written.library);
    expect(written.other.violations()).toEqual([]);
    for (const file of [written.file, written.plainFile]) by.write(file, REPAIR);
    written.expectUndisturbed();
  }
  await written.expectArrival();
}

describe.each(ENFORCED)('a program %s', (_, enforced) => {
  const [direct] = OUTSIDE_WRITERS;

  it.each(Object.entries(REPERTOIRE))('[W20] is captured: %s', async (_name, sql) => {
    await expectCaptured(direct as OutsideWriter, enforced, sql);
  });

  it.each(OUTSIDE_WRITERS.slice(1))('[W20] is captured, whatever it does, as $name', async (by) => {
    await expectCaptured(by, enforced, Object.values(REPERTOIRE).join(`\n${RESET}\n`));
  });

  it.for(ABSENT_WRITERS)('is not tested where it is not: %s', (reason, { skip }) => skip(reason));
});
