/** Several programs at once on one library, and transactions that last, while the node stamps and sends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { Written } from '../support/written.ts';

const PROGRAMS = fileURLToPath(new URL('programs', import.meta.url));
/** Transactions of each program. */
const TRANSACTIONS = 150;

let written: Written;
let children: ChildProcess[];
beforeEach(() => {
  written = new Written();
  // The programs may keep the node waiting as long as they like.
  written.library.db.pragma('busy_timeout = 60000');
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  written.close();
});

function start(name: string, ...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [join(PROGRAMS, name), written.file, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

/** Runs a program to its end; its output as JSON. */
async function finished<T>(child: ChildProcess): Promise<T> {
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  const [code] = (await once(child, 'close')) as [number | null];
  expect(code).toBe(0);
  return JSON.parse(output) as T;
}

/** A program that does one statement at a time, when it is told. */
class Session {
  readonly #child = start('session.ts');
  readonly #lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();

  async run(sql: string): Promise<unknown[]> {
    this.#child.stdin?.write(`${sql}\n`);
    const { value } = (await this.#lines.next()) as { value: string };
    const { rows, error } = JSON.parse(value) as { rows: unknown[]; error?: string };
    if (error !== undefined) throw new Error(error);
    return rows;
  }
}

/** What the node would send now, without stamping anything before. */
function sendable(): ReturnType<typeof written.library.feeds.page> {
  const { library, other } = written;
  const knowledge = other.library.knowledge();
  const runs = Buffer.concat([...knowledge.keys()].map((run) => Buffer.from(run, 'hex')));
  const { feed } = library.feeds.open(other.library.cursor('A'), { runs, hlc: [...knowledge.values()] });
  const page = library.feeds.page(feed, { rows: 1_000, bytes: 1 << 20 });
  library.feeds.close(feed);
  return page;
}

describe('several programs at once', () => {
  it('[W23] lose nothing of what was committed, nor does anything else arrive', async () => {
    written.library.write("UPDATE teams SET title = '0' WHERE code = 'none'");
    const programs = [
      ['one', 'ON'],
      ['two', 'OFF'],
      ['three', 'ON'],
    ].map(([name, foreignKeys]) =>
      finished<[string, number][]>(start('busy.ts', name as string, String(TRANSACTIONS), foreignKeys as string)),
    );
    let isOver = false;
    let sent = 0;
    const all = Promise.all(programs).finally(() => (isOver = true));
    while (!isOver) {
      // The node goes on meanwhile: stamps what is there, and sends it.
      sent += written.other.pull(written.library, 50).reduce((sum, { changed }) => sum + changed, 0);
      expect(written.other.violations()).toEqual([]);
      await nextTurn();
    }
    const kept = (await all).flat();
    expect(sent).toBeGreaterThan(0);
    await written.expectArrival();
    for (const copy of [written.library, written.other]) {
      const found = copy.rows(
        `SELECT p.name, count(t.id) FROM people p LEFT JOIN tasks t ON t.owner = p.id WHERE p.name GLOB '* [0-9]*' GROUP BY p.id`,
      );
      expect(new Map(found as [string, number][])).toEqual(new Map(kept));
      expect(copy.rows("SELECT title FROM teams WHERE code = 'none'")).toEqual([[String(kept.length)]]);
    }
  });
});

describe('a transaction that lasts', () => {
  it('[W24] is seen by nobody before its commit, and whole after it', async () => {
    const session = new Session();
    await session.run('BEGIN IMMEDIATE');
    for (let n = 0; n < 20; n += 1) {
      await session.run(`INSERT INTO people (name) VALUES ('of a long transaction ${n}')`);
      expect(sendable()).toMatchObject({ rows: 0 });
    }
    await session.run("DELETE FROM people WHERE name = 'of a long transaction 7'");
    await session.run('COMMIT');
    // Now there is something to stamp first.
    expect(sendable()).toMatchObject({ unstamped: true });
    await written.expectArrival();
    expect(written.other.rows("SELECT count(*) FROM people WHERE name GLOB 'of a long*'")).toEqual([[19]]);
  });

  it('[W24] ends as if it had not been when its program dies', async () => {
    const session = new Session();
    await session.run('BEGIN IMMEDIATE');
    await session.run('DELETE FROM tasks');
    const [child] = children as [ChildProcess];
    child.kill('SIGKILL');
    await once(child, 'close');
    written.library.write("INSERT INTO people (name) VALUES ('after')");
    await written.expectArrival();
    expect(written.other.rows('SELECT count(*) FROM tasks')).toEqual([[6]]);
  });

  it('[W24] that only reads keeps nobody waiting, and sees what it saw', async () => {
    const session = new Session();
    await session.run('BEGIN');
    const before = await session.run('SELECT count(*) FROM people');
    written.library.write("INSERT INTO people (name) VALUES ('meanwhile')");
    written.other.write("INSERT INTO people (name) VALUES ('from elsewhere')");
    await written.expectArrival();
    expect(await session.run('SELECT count(*) FROM people')).toEqual(before);
    await session.run('COMMIT');
    expect(await session.run('SELECT count(*) - 2 FROM people')).toEqual(before);
  });
});
