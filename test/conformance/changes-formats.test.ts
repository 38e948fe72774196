/**
 * What was written by a release stays readable for ever: a library, pages of a feed, frames.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { BATCH_FORMAT, decodeBatch } from '../../src/protocol/batch.ts';
import { PROTOCOL_VERSION, decodeFrame } from '../../src/protocol/frames.ts';
import { FORMAT_VERSION } from '../../src/db/metadata.ts';
import { CONFIG, CONTENT, DDL } from '../fixtures/make.ts';
import { Replica, seededBytes } from '../support/replica.ts';

interface Fixture {
  readonly expected: { readonly rows: unknown[][]; readonly waiting: string[]; readonly digest: unknown };
  readonly pages: string[];
  readonly frames: Record<string, string>;
}

const at = (name: string): Buffer => readFileSync(new URL(`../fixtures/${name}`, import.meta.url));
const fixture = JSON.parse(at('format-1.json').toString()) as Fixture;
/** Not the seeds of the device that has written the fixture: its runs must not be minted again. */
const randomBytes = seededBytes(0x5eed);
const library = (): Replica =>
  new Replica({ device: 'device-b', ddl: DDL, config: CONFIG, randomBytes }, gunzipSync(at('format-1-library.gz')));

describe('format 1', () => {
  it('[G12] is the one of today', () => {
    expect([FORMAT_VERSION, BATCH_FORMAT, PROTOCOL_VERSION]).toEqual([1, 1, 1]);
  });

  it('[G12] a stored library opens with all that it holds, and goes on', async () => {
    const copy = library();
    expect(copy.rows(CONTENT.replace('f.size', 'f.bytes'))).toEqual(fixture.expected.rows);
    expect(copy.waiting()).toEqual(fixture.expected.waiting);
    const fresh = new Replica({ device: 'device-c', ddl: DDL, config: CONFIG, randomBytes });
    fresh.pull(copy);
    expect(fresh.rows(CONTENT)).toEqual(fixture.expected.rows);
    expect(await fresh.digest()).toEqual(await copy.digest());
    copy.write("UPDATE files SET bytes = 7 WHERE name = 'root'; ALTER TABLE files ADD COLUMN note TEXT");
    fresh.pull(copy);
    expect(fresh.rows("SELECT size FROM files WHERE name = 'root'")).toEqual([[7]]);
    expect(copy.rows("SELECT note FROM files WHERE name = 'root'")).toEqual([['aside']]);
    expect(await fresh.digest()).toEqual(await copy.digest());
    expect(copy.violations()).toEqual([]);
  });

  it('[G12] its digest is what it was', async () => {
    const restored = library();
    const { digest } = fixture.expected as { digest: { tables: Record<string, { digest: string }> } };
    const now = (await restored.digest()) as typeof digest;
    // The tag that was not stamped yet gets its stamp now.
    expect(now.tables['files']).toEqual(digest.tables['files']);
    expect(now.tables['volumes']).toEqual(digest.tables['volumes']);
    expect(now.tables['notes']).toEqual(digest.tables['notes']);
  });

  it('[G12] stored pages of a feed can be taken in', () => {
    const copy = new Replica({ device: 'device-d', ddl: DDL, config: CONFIG, randomBytes });
    const before = copy.rows(CONTENT);
    for (const page of fixture.pages) {
      const bytes = new Uint8Array(Buffer.from(page, 'hex'));
      expect(decodeBatch(bytes).names.length).toBeGreaterThan(0);
      copy.apply('device-a', bytes);
    }
    expect(before).toEqual([]);
    expect(copy.waiting()).toContain('no-table');
    expect(copy.violations()).toEqual([]);
  });

  it.each(Object.entries(fixture.frames))('[G12] the stored frame %s can be read', (name, hex) => {
    expect(decodeFrame(new Uint8Array(Buffer.from(hex, 'hex'))).type).toBe(name.split(' ')[0]);
  });
});
