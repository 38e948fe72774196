/**
 * Random sets of records of membership, most of which nobody honest would sign: strangers, circles, terms out of nowhere, revocations
 * that pretend to know nothing. Whatever they are, they mean one thing, and nobody is a member whom no chain of members has let in.
 */
import { describe, expect, it } from 'vitest';

import { libraryIdOf, membershipOf, recordIdOf, recordText, signerOf } from '../../src/protocol/membership.ts';
import type { MemberRecord } from '../../src/protocol/membership.ts';
import { Chance } from '../support/chance.ts';

const SALT = '5a'.repeat(16);
const LIBRARY = libraryIdOf('A', SALT);
const DEVICES = [...'ABCDEFG'];
const MAX_RECORDS = 30;
const SETS = 1_500;

function randomRecord(chance: Chance, known: readonly string[]): MemberRecord {
  const [device, by] = [chance.pick(DEVICES), chance.pick(DEVICES)];
  const [term, byTerm] = [chance.between(1, 2), chance.happens(0.8) ? 1 : 2];
  const common = { device, term, by, byTerm, at: chance.below(3) };
  if (chance.happens(0.05)) return { type: 'founder', device, name: '', salt: SALT, at: 0 };
  if (chance.happens(0.6)) return { type: 'member', ...common, name: '' };
  return { type: 'revoked', ...common, keeps: known.filter(() => chance.happens(0.4)).toSorted() };
}

function randomSet(seed: number): Map<string, MemberRecord> {
  const chance = new Chance(seed);
  const records = new Map<string, MemberRecord>();
  const add = (record: MemberRecord): void => void records.set(recordIdOf(LIBRARY, recordText(record)), record);
  add({ type: 'founder', device: 'A', name: '', salt: SALT, at: 0 });
  for (let i = chance.between(1, MAX_RECORDS); i > 0; i -= 1) add(randomRecord(chance, [...records.keys()]));
  return records;
}

describe('[P1] a set of records', () => {
  it('means the same in any order, and makes nobody a member out of nothing', () => {
    let members = 0;
    let revoked = 0;
    for (let seed = 1; seed <= SETS; seed += 1) {
      const records = randomSet(seed);
      const { devices, counted } = membershipOf(LIBRARY, records);
      const turned = membershipOf(LIBRARY, new Map([...records].toReversed()));
      expect(turned.counted, `seed ${seed}`).toEqual(counted);
      expect(turned.devices, `seed ${seed}`).toEqual(devices);
      const all = [...records].filter(([id]) => counted.has(id)).map(([, record]) => record);
      for (const { device, term, revoked: ended } of devices.values()) {
        if (ended !== null) {
          revoked += 1;
          continue;
        }
        members += 1;
        expect(isLetIn(all, device, term), `seed ${seed}: ${device}`).toBe(true);
        const over = all.filter((one) => one.type === 'revoked' && one.device === device && one.term >= term);
        expect(over, `seed ${seed}: ${device}`).toEqual([]);
      }
    }
    expect(members).toBeGreaterThan(SETS);
    expect(revoked).toBeGreaterThan(SETS / 4);
  });
});

/** Whether counting records lead from the founder to a device. */
function isLetIn(
  records: readonly MemberRecord[],
  device: string,
  term: number,
  seen: readonly string[] = [],
): boolean {
  const key = `${device} ${term}`;
  if (seen.includes(key)) return false;
  if (device === 'A' && term === 1) return true;
  return records.some(
    (one) =>
      one.type === 'member' &&
      one.device === device &&
      one.term === term &&
      isLetIn(records, signerOf(one), one.byTerm, [...seen, key]),
  );
}
