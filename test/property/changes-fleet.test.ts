/**
 * Copies whose schemas change at different moments, from one seed: columns and tables come and are renamed, programs write to
 * what each copy has, passes are cut anywhere, nodes restart. In the end all are upgraded, and equal.
 */
import { expect, it } from 'vitest';

import { Replica, converge, seededBytes } from '../support/replica.ts';
import type { Pass } from '../support/replica.ts';

const DDL = `
CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT);
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL, parent_id INTEGER REFERENCES files (id) ON DELETE CASCADE);
CREATE TABLE volumes (id INTEGER PRIMARY KEY, label TEXT);`;
const CONFIG = { tables: { volumes: { ownership: 'device' } } };

/** Upgrades, in the order in which every copy makes them. */
const STEPS = [
  "ALTER TABLE files ADD COLUMN note TEXT DEFAULT 'none'",
  'CREATE TABLE albums (id INTEGER PRIMARY KEY, title TEXT); ALTER TABLE files ADD COLUMN album_id INTEGER REFERENCES albums (id) ON DELETE SET NULL',
  'ALTER TABLE files RENAME COLUMN name TO title',
  'ALTER TABLE volumes ADD COLUMN size INTEGER; ALTER TABLE tags ADD COLUMN weight REAL NOT NULL DEFAULT 1',
  'ALTER TABLE tags RENAME TO labels',
];

interface Link {
  readonly to: number;
  readonly from: number;
  readonly pass: Pass;
}

class Story {
  readonly #bytes: (size: number) => Uint8Array;
  readonly #copies: Replica[];
  readonly #level: number[];
  #links: Link[] = [];
  #token = 0;
  readonly trace: string[] = [];

  constructor(seed: number) {
    this.#bytes = seededBytes(seed);
    this.#copies = ['a', 'b', 'c'].map((device) => new Replica({ device, ddl: DDL, config: CONFIG }));
    this.#level = this.#copies.map(() => 0);
  }

  async play(): Promise<void> {
    for (let step = 0; step < 60; step += 1) this.#act();
    for (const { pass } of this.#links) pass.close();
    converge(this.#copies);
    const early = await this.#digests();
    for (const copy of early) expect(copy).toEqual(early[0]);
    this.#copies.forEach((_, i) => {
      while (this.#upgrade(i));
    });
    converge(this.#copies);
    const digests = await this.#digests();
    for (const copy of digests) expect(copy).toEqual(digests[0]);
    const contents = this.#copies.map((copy) => this.#content(copy));
    for (const content of contents) expect(content).toEqual(contents[0]);
    for (const copy of this.#copies) {
      expect(copy.violations()).toEqual([]);
      expect(copy.waiting()).toEqual([]);
    }
  }

  #digests(): Promise<unknown[]> {
    return Promise.all(this.#copies.map((copy) => copy.digest()));
  }

  #content(copy: Replica): unknown[] {
    return [
      copy.rows('SELECT name, colour, weight FROM labels ORDER BY name'),
      copy.rows(`SELECT f.title, p.title, f.note, a.title FROM files f LEFT JOIN files p ON p.id = f.parent_id
        LEFT JOIN albums a ON a.id = f.album_id ORDER BY f.title, f.note, p.title, a.title`),
      copy.rows('SELECT title FROM albums ORDER BY title'),
      copy.rows('SELECT label, size FROM volumes ORDER BY label, size'),
    ];
  }

  #act(): void {
    const i = this.#below(this.#copies.length);
    const kind = this.#below(20);
    if (kind < 9) this.#write(i);
    else if (kind < 16) this.#exchange(i);
    else if (kind < 17) this.#restart(i);
    else this.#upgrade(i);
  }

  #upgrade(i: number): boolean {
    const sql = STEPS[this.#level[i] ?? 0];
    if (sql === undefined) return false;
    this.trace.push(`${i}: ${sql}`);
    this.#copy(i).write(sql);
    this.#level[i] = (this.#level[i] ?? 0) + 1;
    if (this.#below(2) === 0) this.#copy(i).look();
    return true;
  }

  #restart(i: number): void {
    this.trace.push(`${i}: restarts`);
    this.#links = this.#links.filter((link) => link.to !== i && link.from !== i);
    this.#copy(i).restart();
  }

  #exchange(to: number): void {
    const open = this.#links.find((link) => link.to === to);
    if (open === undefined) {
      const from = (to + 1 + this.#below(this.#copies.length - 1)) % this.#copies.length;
      this.#links.push({ to, from, pass: this.#copy(to).passFrom(this.#copy(from)) });
      return;
    }
    const sender = this.#copy(open.from);
    const page = open.pass.next(1 + this.#below(6));
    this.trace.push(`${to}: a page of ${open.from}`);
    if (page !== null && !this.#copy(to).apply(sender.device, page).complete) return;
    open.pass.close();
    this.#links = this.#links.filter((link) => link !== open);
  }

  #write(i: number): void {
    const copy = this.#copy(i);
    const level = this.#level[i] ?? 0;
    this.#token += 1;
    const text = `'${copy.device}${this.#token}'`;
    const name = level > 2 ? 'title' : 'name';
    const tags = level > 4 ? 'labels' : 'tags';
    const id = (table: string): string => `(SELECT id FROM ${table} ORDER BY id LIMIT 1 OFFSET ${this.#below(3)})`;
    const tag = `'t${this.#below(4)}'`;
    const kinds = [
      `INSERT INTO files (${name}, parent_id) VALUES (${text}, ${id('files')})`,
      `UPDATE files SET ${name} = ${text} WHERE id = ${id('files')}`,
      `INSERT INTO ${tags} (name, colour) VALUES (${tag}, ${text}) ON CONFLICT (name) DO UPDATE SET colour = excluded.colour`,
      `DELETE FROM ${tags} WHERE name = ${tag}`,
      `INSERT INTO volumes (label) VALUES (${text})`,
      `UPDATE volumes SET label = ${text} WHERE id IN (SELECT key FROM flotilla_rows_3 WHERE birth_run IN (
        SELECT run FROM flotilla_runs WHERE device = '${copy.device}'))`,
      `DELETE FROM files WHERE id = ${id('files')} AND ${this.#below(3)} = 0`,
    ];
    if (level > 0)
      kinds.push(
        `UPDATE files SET note = ${text} WHERE id = ${id('files')}`,
        `INSERT INTO files (${name}, note) VALUES (${text}, ${text})`,
      );
    if (level > 1)
      kinds.push(
        `INSERT INTO albums (title) VALUES (${text})`,
        `UPDATE files SET album_id = ${id('albums')} WHERE id = ${id('files')}`,
        `INSERT INTO files (${name}, album_id) VALUES (${text}, ${id('albums')})`,
        `DELETE FROM albums WHERE id = ${id('albums')} AND ${this.#below(2)} = 0`,
        `UPDATE albums SET title = ${text} WHERE id = ${id('albums')}`,
      );
    if (level > 3)
      kinds.push(
        `UPDATE volumes SET size = ${this.#token} WHERE id IN (SELECT key FROM flotilla_rows_3 WHERE birth_run IN (
          SELECT run FROM flotilla_runs WHERE device = '${copy.device}'))`,
        `UPDATE ${tags} SET weight = ${this.#token}.5 WHERE name = ${tag}`,
      );
    const sql = kinds[this.#below(kinds.length)] ?? '';
    this.trace.push(`${i}: ${sql}`);
    copy.write(sql);
    if (this.#below(3) === 0) copy.stamp();
  }

  #copy(i: number): Replica {
    return this.#copies[i] as Replica;
  }

  #below(limit: number): number {
    const [a = 0, b = 0] = this.#bytes(2);
    return (a * 256 + b) % limit;
  }
}

const SEEDS = Number(process.env['FLOTILLA_SEEDS'] ?? 6);

it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))(
  '[G3] copies that are upgraded at different moments end equal (seed %i)',
  async (seed) => {
    const story = new Story(seed);
    try {
      await story.play();
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}\n${story.trace.join('\n')}`, { cause: error });
    }
  },
);
