/**
 * A random fleet of copies that count: rows with a counter, a maximum and a set, written on all copies at once. Passes are cut
 * anywhere, repeated and relayed, nodes restart. What every copy must show in the end follows from what was written, exactly.
 */
import { Replica, seededBytes } from './replica.ts';
import type { Pass } from './replica.ts';

const DDL = `CREATE TABLE counts (id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL, high INTEGER, marks TEXT, note TEXT);`;

const letters = (text: unknown): string[] => [...String(text)];
const union = (a: unknown, b: unknown): string => [...new Set([...letters(a), ...letters(b)])].toSorted().join('');

const OPTIONS = {
  ddl: DDL,
  config: {
    module: './merge.js',
    tables: { counts: { columns: { n: { merge: 'counter' }, high: { merge: 'max' }, marks: { merge: 'union' } } } },
  },
  functions: { union },
};

interface Expected {
  n: number;
  high: number;
  marks: string;
}

/** Plays one seed to its end; throws an error that tells the seed and what was done. */
export async function playCounting(seed: number, steps: number): Promise<void> {
  const play = new Counting(seed);
  try {
    for (let step = 0; step < steps; step += 1) play.step();
    await play.rest();
  } catch (error) {
    throw new Error(`counting seed ${seed}: ${String(error)}\n${play.trace.join('\n')}`, { cause: error });
  } finally {
    play.close();
  }
}

class Counting {
  readonly trace: string[] = [];
  readonly #replicas: Replica[];
  readonly #bytes: (size: number) => Uint8Array;
  readonly #expected = new Map<string, Expected>();
  readonly #deleted = new Set<string>();
  #passes: { readonly to: Replica; readonly from: Replica; readonly pass: Pass }[] = [];
  readonly #sent: { readonly to: Replica; readonly from: string; readonly page: Uint8Array }[] = [];
  #time = Date.UTC(2026, 0, 1);

  constructor(seed: number) {
    this.#bytes = seededBytes(seed);
    this.#replicas = Array.from({ length: 3 + this.#below(2) }, (_, i) => {
      const skew = this.#below(200_000) - 100_000;
      const randomBytes = seededBytes(seed * 16 + i + 1);
      return new Replica({ ...OPTIONS, device: `device-${i}`, randomBytes, now: () => (this.#time += 1) + skew });
    });
  }

  step(): void {
    this.#time += this.#below(5_000);
    const dice = this.#below(100);
    const replica = this.#pick(this.#replicas);
    if (dice < 50) this.#write(replica);
    else if (dice < 88) this.#exchange(replica, this.#pick(this.#replicas));
    else if (dice < 93) this.#repeat();
    else if (dice < 97) {
      this.trace.push(`${replica.device} restarts`);
      replica.restart();
      // Its feeds went with it.
      this.#passes = this.#passes.filter(({ from }) => from !== replica);
    } else replica.stamp();
  }

  async rest(): Promise<void> {
    this.trace.push('-- rest');
    for (let heads = ''; heads !== (heads = this.#heads());) {
      for (const to of this.#replicas) for (const from of this.#replicas) if (to !== from) to.pull(from, 3);
    }
    const digest = JSON.stringify(await this.#replicas[0]?.digest());
    for (const replica of this.#replicas) {
      if (JSON.stringify(await replica.digest()) !== digest) throw new Error(`the digest of ${replica.device} differs`);
      this.#compare(replica);
    }
  }

  close(): void {
    for (const replica of this.#replicas) replica.db.close();
  }

  #compare(replica: Replica): void {
    if (replica.waiting().length > 0) throw new Error(`${replica.device} has rows waiting`);
    const shown = new Map(replica.rows('SELECT name, n, high, marks FROM counts').map((row) => [String(row[0]), row]));
    for (const [name, { n, high, marks }] of this.#expected) {
      const is = JSON.stringify(shown.get(name) ?? null);
      const must = JSON.stringify(this.#deleted.has(name) ? null : [name, n, high, marks]);
      if (is !== must) throw new Error(`${replica.device} shows ${is}, must show ${must}`);
    }
  }

  #heads(): string {
    return this.#replicas.map((replica) => replica.library.head).join(' ');
  }

  #write(replica: Replica): void {
    const names = replica.rows('SELECT name FROM counts ORDER BY name').map(([name]) => String(name));
    const name = names.length === 0 || this.#below(10) === 0 ? null : this.#pick(names);
    if (name === null) {
      const fresh = `row ${this.#expected.size}`;
      const start = this.#below(100);
      this.#expected.set(fresh, { n: start, high: start, marks: 'a' });
      this.#run(replica, `INSERT INTO counts (name, n, high, marks) VALUES ('${fresh}', ${start}, ${start}, 'a')`);
      return;
    }
    const expected = this.#expected.get(name) as Expected;
    const by = this.#below(21) - 10;
    const letter = this.#pick(letters('abcdefgh'));
    const where = `WHERE name = '${name}'`;
    switch (this.#below(12)) {
      case 0:
        this.#deleted.add(name);
        return this.#run(replica, `DELETE FROM counts ${where}`);
      case 1:
        return this.#run(replica, `UPDATE counts SET note = '${this.#time}', n = 'no number' ${where}`);
      case 2:
        return this.#run(replica, `UPDATE counts SET high = NULL, note = '${this.#time}' ${where}`);
      case 3:
      case 4:
      case 5: {
        const value = this.#below(200);
        expected.high = Math.max(expected.high, value);
        return this.#run(replica, `UPDATE counts SET high = ${value} ${where}`);
      }
      case 6:
      case 7:
        expected.marks = union(expected.marks, letter);
        return this.#run(replica, `UPDATE counts SET marks = marks || '${letter}' ${where}`);
      default:
        expected.n += by;
        // A letter that is there already is a write that says nothing.
        return this.#run(replica, `UPDATE counts SET n = n + ${by}, note = '${this.#time}' ${where}`);
    }
  }

  #run(replica: Replica, sql: string): void {
    this.trace.push(`${replica.device}: ${sql}`);
    replica.write(sql);
    // What a program writes over a value that is not put back yet, it writes over that.
    replica.stamp();
  }

  #exchange(to: Replica, from: Replica): void {
    if (to === from) return;
    let link = this.#passes.find((one) => one.to === to && one.from === from);
    if (link === undefined) {
      link = { to, from, pass: to.passFrom(from) };
      this.#passes.push(link);
    }
    const page = link.pass.next(1 + this.#below(4));
    const applied = page === null ? null : to.applier.apply(from.device, page);
    this.trace.push(`${to.device} <- ${from.device}: ${applied === null ? 'nothing' : `${applied.rows} rows`}`);
    if (page !== null) this.#sent.push({ to, from: from.device, page });
    if (applied !== null && !applied.complete) return;
    link.pass.close();
    this.#passes = this.#passes.filter((one) => one !== link);
  }

  #repeat(): void {
    if (this.#sent.length === 0) return;
    const { to, from, page } = this.#pick(this.#sent);
    this.trace.push(`${to.device} <- ${from}: a page again`);
    to.applier.apply(from, page);
  }

  #below(limit: number): number {
    return Buffer.from(this.#bytes(4)).readUInt32LE() % limit;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }
}
